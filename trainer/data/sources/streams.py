"""Compressed files as streams of what they hold. Members or frames that follow each other are read as one."""

import io
import lzma
from typing import Any, BinaryIO

import pyarrow as pa

from trainer.data.sources.kinds import Compression
from trainer.data.sources.messages import MEND
from trainer.errors import TrainerError, UserError

_BUFFER = 2**20


def decompressed(raw: BinaryIO, kind: Compression, told: str) -> BinaryIO:
    """The content of a compressed stream, which it closes.

    Args:
      raw: buffered.
      kind: how it is compressed.
      told: how a message about the file begins.

    Reading raises UserError where the stream is empty, damaged, or ends too soon. (Of a cut file pyarrow's reader
    says so; others of zstd take it for a short one.)
    """
    if not raw.peek(1):  # type: ignore[attr-defined]
        raw.close()
        raise UserError(f"{told} is empty (0 bytes), which no {kind} file is: {MEND}")
    inner: Any = lzma.LZMAFile(raw) if kind == "xz" else pa.CompressedInputStream(pa.PythonFile(raw, "r"), kind)  # noqa: SIM115
    return io.BufferedReader(_Checked(inner, raw, kind, told), _BUFFER)


class _Checked(io.RawIOBase):
    """Reads on until it fails, and tells where."""

    def __init__(self, inner: Any, raw: BinaryIO, kind: str, told: str) -> None:
        self._inner, self._raw, self._kind, self._told = inner, raw, kind, told
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        try:
            content = self._inner.read(len(target))
        except TrainerError:
            raise
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise UserError(
                f"{self._told} is damaged or cut short after {self._given} bytes of its content "
                f"({self._kind}: {error}): {MEND}"
            ) from error
        target[: len(content)] = content
        self._given += len(content)
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
