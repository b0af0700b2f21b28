"""What the data gives the step."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

Array = np.ndarray | jax.Array


class Batch(NamedTuple):
    """Packed windows; every field but the last is [sequences, max_seq_len]."""

    inputs: Array
    """int32 token ids."""
    targets: Array
    """int32 ids of the next tokens."""
    segments: Array
    """int32 number of the document within the window, from 1; 0 marks padding. Attention never crosses documents."""
    weights: Array
    """float32: 1 where the target counts in the loss, 0 in padding."""
    lesson: Mapping[str, Array] = {}
    """What a teacher's side of the same windows is, by name, each [sequences, ...]; empty in most runs."""
