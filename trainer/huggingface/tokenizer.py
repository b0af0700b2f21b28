"""The tokenizer of a run beside its exported weights, as transformers loads it."""

import logging
from pathlib import Path

import tokenizers
from tokenizers.decoders import ByteLevel as BytesAgain
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from trainer.data.tokenizers import BYTE, ByteTokenizer
from trainer.huggingface.tensor_folder import write_json
from vishwamai.contract.config import TrainingConfig

NAME = "tokenizer.json"
_LOG = logging.getLogger(__name__)


def write_tokenizer(config: TrainingConfig, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json of the run's data.tokenizer; warns when it is no longer there.

    Raises OSError when the folder cannot be written to.
    """
    sequence = config.sequence
    try:
        if config.data.tokenizer == BYTE:
            found = byte_level(sequence.eos_token_id, sequence.pad_token_id)
        else:
            path = Path(config.data.tokenizer).expanduser()
            found = tokenizers.Tokenizer.from_file(str(path / NAME if path.is_dir() else path))
    except Exception as error:  # the library raises bare Exception
        _LOG.warning("exported without a tokenizer: %s (%s)", config.data.tokenizer, error)
        return
    found.save(str(folder / NAME))
    special = {"eos_token": sequence.eos_token_id, "pad_token": sequence.pad_token_id}
    named = {name: token for name, number in special.items() if (token := found.id_to_token(number)) is not None}
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", plain | {"model_max_length": config.model.max_seq_len} | named)


def byte_level(eos_id: int, pad_id: int) -> tokenizers.Tokenizer:
    """`data.tokenizer` "byte" as a BPE without merges: the same ids for every text that names no special token."""
    ids = ByteTokenizer(eos_id, pad_id).ids_of_bytes
    vocabulary = {character: int(ids[byte]) for byte, character in enumerate(_characters())}
    vocabulary |= {"<pad>": pad_id, "<eos>": eos_id}
    made = tokenizers.Tokenizer(BPE(vocabulary, []))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = BytesAgain()
    made.add_special_tokens(["<pad>", "<eos>"])
    return made


def _characters() -> list[str]:
    """What stands for each byte in byte-level vocabularies: its character where that prints, else one from U+0100."""
    printing = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printing else chr(next(others)) for byte in range(256)]
