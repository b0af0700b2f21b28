import random

import pytest

from tests.trainer.data.corpora import write_parquet
from tests.trainer.data.sources.reading import refused
from tests.trainer.data.sources.test_formats import write_arrow, write_records


class TestText:
    def test_not_utf8(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"caf\xe9 au lait")
        assert "a.txt' is not UTF-8: byte 3 is 0xe9" in refused(tmp_path / "a.txt")

    def test_cut_inside_a_character(self, tmp_path):
        (tmp_path / "a.txt").write_bytes("caf\u00e9".encode()[:-1])
        assert "a.txt' ends inside a character, so it was cut short" in refused(tmp_path / "a.txt")


class TestJsonl:
    def test_not_utf8(self, tmp_path):
        (tmp_path / "a.jsonl").write_bytes(b'{"text": "ok"}\n{"text": "caf\xe9"}\n')
        words = "a.jsonl:2 is not UTF-8: byte 13 of the line (byte 28 of the file) is 0xe9"
        assert words in refused(tmp_path / "a.jsonl")

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('{"text": "cut', "is not JSON (from byte 16"),
            ('["text"]', "holds a JSON list, not an object"),
            ('{"body": "one", "id": 2}', "has no field 'text', only 'body', 'id': set data.text_field"),
            ("{}", "only none"),
            ('{"text": 3}', "holds int, not a string"),
            ('{"text": "\\ud800"}', "half a surrogate pair at character 0: write the whole character"),
            ('{"a": ' * 20_000 + "}" * 20_000, "is nested too deeply"),
        ],
    )
    def test_a_bad_line(self, tmp_path, line, words):
        (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' + line + "\n")
        message = refused(tmp_path / "a.jsonl")
        assert "a.jsonl:2" in message
        assert words in message

    def test_cut_short(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "tw')
        assert "a.jsonl:2 is the last line, from byte 16, and is cut off" in refused(tmp_path / "a.jsonl")


class TestParquet:
    def test_another_file_or_column(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", {"n": [1], "body": ["one"]})
        assert "has no column 'text', only 'n', 'body': set data.text_field" in refused(path)
        assert "column 'n' holds int64, not strings" in refused(path, text_field="n")
        path.write_bytes(b"PAR1 and nothing else")
        assert "is no Parquet file, or was cut short" in refused(path)
        path.write_bytes(b"")
        assert "is no Parquet file, or was cut short" in refused(path)

    def test_zeros_inside(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", {"text": [f"{n} " * 50 for n in range(1000)]})
        content = bytearray(path.read_bytes())
        content[50:150] = bytes(100)
        path.write_bytes(content)
        assert "is damaged in row group 0, at row 0 or after it" in refused(path)

    def test_not_utf8(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", {"text": ["one", "two", "thr33"]})
        path.write_bytes(path.read_bytes().replace(b"thr33", b"thr\xff3"))
        assert "row 2 of column 'text', counted from 0, is not UTF-8: byte 3 of the text is 0xff" in refused(path)


class TestArrow:
    @pytest.mark.parametrize("stream", [True, False])
    def test_cut_short(self, tmp_path, stream):
        path = write_arrow(tmp_path / "a.arrow", {"text": [f"{n} " * 50 for n in range(100)]}, stream=stream)
        whole = path.read_bytes()
        for kept in (0, 3, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:kept])
            message = refused(path)
            assert "a.arrow' " in message
            assert "copy or write it anew" in message

    def test_cut_between_batches(self, tmp_path):
        path = write_arrow(tmp_path / "a.arrow", {"text": ["one"] * 8}, stream=True)
        path.write_bytes(path.read_bytes()[:-8])  # without the mark of its end
        assert "a stream that was cut short or is still being written" in refused(path)

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_damaged_batch(self, tmp_path, stream):
        path = write_arrow(tmp_path / "a.arrow", {"text": ["one"] * 8}, stream=stream)
        content = bytearray(path.read_bytes())
        where = content.rfind(b"oneone")
        content[where - 160 : where - 16] = b"\x7f" * 144
        path.write_bytes(content)
        assert "a.arrow' is damaged or cut short at its record batch " in refused(path)

    def test_another_column_or_file(self, tmp_path):
        path = write_arrow(tmp_path / "a.arrow", {"n": [1], "body": ["one"]}, stream=True)
        assert "has no column 'text', only 'n', 'body'" in refused(path)
        assert "column 'n' holds int64, not strings" in refused(path, text_field="n")
        path.write_bytes(b"FEA1 of long ago")
        assert "is Feather of version 1" in refused(path)

    def test_not_utf8(self, tmp_path):
        path = write_arrow(tmp_path / "a.arrow", {"text": ["one", "two", "thr33"]}, stream=False)
        path.write_bytes(path.read_bytes().replace(b"thr33", b"thr\xff3"))
        assert "row 2 of column 'text', counted from 0, is not UTF-8: byte 3" in refused(path)


class TestArrayRecords:
    def test_cut_short(self, tmp_path):
        path = write_records(tmp_path / "a.array_record", [b"one"] * 100)
        whole = path.read_bytes()
        for kept in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:kept])
            assert "holds no records that can be read: it is empty, cut short" in refused(path)

    def test_a_flipped_byte(self, tmp_path):
        draw = random.Random(0)
        path = write_records(tmp_path / "a.array_record", [draw.randbytes(999).hex().encode() for _ in range(100)])
        content = bytearray(path.read_bytes())
        content[70_000] ^= 255
        path.write_bytes(content)
        assert "is damaged in records " in refused(path)
