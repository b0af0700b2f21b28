"""What an imported checkpoint computes, in a form that another implementation's output can be compared with.

float32 on the CPU with exact products, so that what differs from transformers is the order of additions alone.
Positions are 0 to T - 1 in every row, whatever the mask: that is what transformers does without position_ids, and
attention depends on distances only. Tokens under the mask are padding: no other token sees them, and their own rows are
not comparable.
"""

from pathlib import Path

import jax
import numpy as np

from trainer.errors import UserError
from trainer.forward import make_hidden_states
from trainer.huggingface.load import load_params, read_source
from trainer.huggingface.plain import plain_job
from trainer.mesh import make_mesh


def check_import(folder: Path, inputs: Path, output: Path) -> None:
    """Runs the checkpoint in `folder` on `inputs` and writes `output`, both NumPy archives.

    inputs: input_ids [B, T] and attention_mask [B, T] (absent: all ones). output: logits float32 [B, T, V] and
    hidden_states float32 [L + 1, B, T, H]: [0] the embeddings after scaling, [i] the output of layer i, [L] that of the
    last layer after the final norm. Raises UserError for a checkpoint or inputs that cannot be used.
    """
    source = read_source(folder)
    ids, mask = _read_inputs(inputs, source.model.vocab_size)
    params = load_params(source)
    job = plain_job(source.model)
    with jax.default_matmul_precision("highest"):
        states, logits = make_hidden_states(job, make_mesh(job))(params, ids, mask)
    try:
        with output.open("wb") as file:
            np.savez(file, logits=np.asarray(logits), hidden_states=np.asarray(states))
    except OSError as error:
        raise UserError(f"cannot write {str(output)!r}: {error.strerror}") from error


def _read_inputs(path: Path, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 ids and mask, both [B, T]."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in ("input_ids", "attention_mask") if name in archive.files}
    except (OSError, ValueError, AttributeError, EOFError) as error:
        why = (isinstance(error, OSError) and error.strerror) or "it is no such archive"
        raise UserError(f"{str(path)!r} cannot be read as an .npz archive: {why}") from error
    if "input_ids" not in found:
        raise UserError(f"{str(path)!r} lacks input_ids")
    ids = found["input_ids"]
    mask = found.get("attention_mask", np.ones_like(ids))
    if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(f"input_ids must be whole numbers [B, T], and are {ids.dtype} {list(ids.shape)}")
    if mask.shape != ids.shape or not np.isin(mask, (0, 1)).all():
        raise UserError(f"attention_mask must be zeros and ones of the shape of input_ids, {list(ids.shape)}")
    wrong = ids[(mask == 1) & ((ids < 0) | (ids >= vocab_size))]
    if wrong.size:
        raise UserError(f"input_ids has {wrong[0]}, and the checkpoint's vocabulary is 0 to {vocab_size - 1}")
    return np.where(mask == 1, ids, 0).astype(np.int32), mask.astype(np.int32)
