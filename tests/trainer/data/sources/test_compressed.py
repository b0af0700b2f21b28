import bz2
import gzip
import lzma

import pyarrow as pa
import pytest

from tests.trainer.data.sources.reading import documents, refused

PACK = {
    ".gz": gzip.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lz4": lambda content: lz4(content),
}
LINES = [b'{"text": "%d"}\n' % (n * 7919) for n in range(2000)]
TEXTS = [str(n * 7919) for n in range(2000)]


def lz4(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("suffix", PACK)
class TestEveryKind:
    def test_parts_that_follow_each_other_are_one_file(self, tmp_path, suffix):
        halves = (b"".join(LINES[:1000]), b"".join(LINES[1000:]))
        (tmp_path / f"a.jsonl{suffix}").write_bytes(b"".join(map(PACK[suffix], halves)))
        assert documents(tmp_path / f"a.jsonl{suffix}") == TEXTS

    def test_a_text(self, tmp_path, suffix):
        (tmp_path / f"a.txt{suffix}").write_bytes(PACK[suffix](b"one"))
        assert documents(tmp_path / "a.txt*") == ["one"]

    @pytest.mark.parametrize("kept", [0.5, -1])
    def test_cut_short(self, tmp_path, suffix, kept):
        whole = PACK[suffix](b"".join(LINES))
        (tmp_path / f"a.jsonl{suffix}").write_bytes(whole[: int(len(whole) * kept) if kept > 0 else kept])
        message = refused(tmp_path / f"a.jsonl{suffix}")
        assert f"a.jsonl{suffix}' is damaged or cut short after " in message
        assert "copy or write it anew" in message

    def test_not_compressed_at_all(self, tmp_path, suffix):
        (tmp_path / f"a.jsonl{suffix}").write_bytes(b"".join(LINES))
        assert "is damaged or cut short after 0 bytes" in refused(tmp_path / f"a.jsonl{suffix}")

    def test_empty(self, tmp_path, suffix):
        (tmp_path / f"a.jsonl{suffix}").write_bytes(b"")
        assert "is empty (0 bytes), which no " in refused(tmp_path / f"a.jsonl{suffix}")


def test_a_flipped_byte(tmp_path):
    content = bytearray(gzip.compress(b"".join(LINES)))
    content[-6] ^= 1  # of the checksum: all else is as it was
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    assert "incorrect data check" in refused(tmp_path / "a.jsonl.gz")


def test_tables_are_not_compressed_as_a_whole(tmp_path):
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(b"PAR1"))
    assert "is compressed by gzip as a whole, and its format is read in pieces: unpack" in refused(tmp_path / "*.gz")
