"""Every format gives back the documents that were written to it."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.corpora import write_parquet
from tests.trainer.data.sources.reading import documents, refused

SAVED = Path(__file__).parent / "saved"
"""What save_to_disk of datasets 5.2.0 wrote: seven rows in two files, and two rows in one."""


def write_arrow(path: Path, columns: dict, *, stream: bool, rows_in_batch: int = 2) -> Path:
    table = pa.table(columns)
    opened = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opened(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=rows_in_batch)
    return path


def write_records(path: Path, records: list[bytes], group: int = 4) -> Path:
    writer = ArrayRecordWriter(str(path), f"group_size:{group}")
    for record in records:
        writer.write(record)
    writer.close()
    return path


class TestText:
    def test_a_file_is_one_document(self, tmp_path):
        (tmp_path / "a.md").write_bytes("\ufeffgrüß\r\ndich\n".encode())
        assert documents(tmp_path / "a.md") == ["grüß\r\ndich\n"]

    def test_the_format_may_be_named(self, tmp_path):
        (tmp_path / "a.data").write_text('{"text": "one"}\n')
        assert documents(tmp_path / "a.data", format="jsonl") == ["one"]
        assert documents(tmp_path / "a.data", format="text") == ['{"text": "one"}\n']


class TestJsonl:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.JSONL"])
    def test_lines(self, tmp_path, name):
        (tmp_path / name).write_text('\ufeff{"text": "one"}\n\n{"text": null}\r\n{"text": "two", "n": 2}')
        assert documents(tmp_path / name) == ["one", "", "two"]

    def test_an_empty_file_is_told(self, tmp_path, caplog):
        (tmp_path / "a.jsonl").write_bytes(b"")
        (tmp_path / "b.jsonl").write_text('{"text": "one"}')
        assert documents(tmp_path / "*.jsonl") == ["one"]
        assert [record.getMessage() for record in caplog.records] == [
            f"data.train: '{tmp_path}/a.jsonl' is empty (0 bytes) and adds nothing"
        ]


class TestParquet:
    def test_rows(self, tmp_path):
        write_parquet(tmp_path / "a.parquet", {"n": [1, 2, 3], "body": ["one", None, "three"]})
        assert documents(tmp_path / "a.parquet", text_field="body") == ["one", "", "three"]

    def test_row_groups_follow_each_other(self, tmp_path):
        texts = [f"{n}" * (n % 7) for n in range(50)]
        pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=8)
        assert documents(tmp_path / "a.parquet") == texts

    def test_of_words_that_repeat(self, tmp_path):
        table = pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()})
        pq.write_table(table, tmp_path / "a.parquet")
        assert documents(tmp_path / "a.parquet") == ["a", "b", "a"]

    def test_beside_a_nested_column(self, tmp_path):
        columns = {"meta": [{"x": 1, "y": ["a"]}, {"x": 2, "y": []}], "text": ["one", "two"]}
        assert documents(write_parquet(tmp_path / "a.parquet", columns)) == ["one", "two"]


class TestArrow:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
    def test_rows(self, tmp_path, stream, kind):
        texts = ["one", None, "drei", "", "5"]
        columns = {"n": list(range(5)), "text": pa.array(texts).cast(kind), "tail": [b"x"] * 5}
        write_arrow(tmp_path / "a.arrow", columns, stream=stream)
        assert documents(tmp_path / "a.arrow") == ["one", "", "drei", "", "5"]

    def test_feather(self, tmp_path):
        pyarrow.feather.write_feather(pa.table({"text": ["one"] * 3}), str(tmp_path / "a.feather"), compression="zstd")
        assert documents(tmp_path / "a.feather") == ["one"] * 3


class TestSavedDatasets:
    def test_rows_of_all_its_files(self):
        assert documents(SAVED / "train") == ["one", "zwei grün", "", "четыре", "", "six\nlines", "7"]
        assert documents(f"{SAVED}/test/") == ["zwei grün", "четыре"]

    def test_one_of_its_splits_is_named(self):
        assert f"name one of them ('{SAVED}/train', '{SAVED}/test')" in refused(SAVED)

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            ({"_data_files": [{"filename": "gone.arrow"}]}, "lacks gone.arrow, which state.json lists: copy it whole"),
            ({"_data_files": []}, "has no rows"),
            ({}, "lists no _data_files"),
            ([], "holds no JSON object"),
            ({"_indices_data_files": [{"filename": "i.arrow"}]}, "save it again, after flatten_indices()"),
        ],
    )
    def test_one_that_is_not_whole(self, tmp_path, state, words):
        (tmp_path / "state.json").write_text(json.dumps(state))
        assert words in refused(tmp_path)

    def test_a_state_cut_short(self, tmp_path):
        (tmp_path / "state.json").write_text('{"_data')
        assert "state.json' is not JSON" in refused(tmp_path)


class TestArrayRecords:
    def test_texts(self, tmp_path):
        records = [b"one", "grün".encode(), b"", b'{"text": 5}']
        assert documents(write_records(tmp_path / "a.array_record", records)) == ["one", "grün", "", '{"text": 5}']

    def test_objects(self, tmp_path):
        records = [json.dumps({"body": f"{n}", "n": n}).encode() for n in range(200)]
        path = write_records(tmp_path / "a.arrayrecord", records)
        assert documents(path, text_field="body") == [f"{n}" for n in range(200)]

    def test_one_kind_a_file(self, tmp_path):
        path = write_records(tmp_path / "a.array_record", [b'{"text": "one"}', b"two"])
        assert "record 1, counted from 0, is not JSON" in refused(path)

    def test_examples_are_refused(self, tmp_path):
        path = write_records(tmp_path / "a.array_record", [b"\x0a\xff\x01text"])
        assert "a tf.train.Example is not read" in refused(path)


@settings(max_examples=5)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=9), min_size=1, max_size=9), data=st.data())
def test_what_is_written_is_read(tmp_path_factory, texts, data):
    folder = tmp_path_factory.mktemp("written")
    lines = [json.dumps({"text": text}, ensure_ascii=data.draw(st.booleans())) for text in texts]
    write_parquet(folder / "a.parquet", {"text": texts})
    write_arrow(folder / "a.arrow", {"text": texts}, stream=data.draw(st.booleans()))
    write_records(folder / "a.array_record", [line.encode() for line in lines])
    (folder / "a.jsonl").write_bytes("\n".join(lines).encode())
    for name in ("a.parquet", "a.arrow", "a.array_record", "a.jsonl"):
        assert documents(folder / name) == texts, name


def test_a_document_larger_than_every_buffer(tmp_path):
    text = "".join(f"{n:x} " for n in range(500_000))
    assert len(text) > 2 * 2**20
    line = json.dumps({"text": text}).encode()
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode(), 1))
    (tmp_path / "a.jsonl").write_bytes(line + b"\n" + line)
    write_parquet(tmp_path / "a.parquet", {"text": [text, text]})
    write_arrow(tmp_path / "a.arrow", {"text": [text, text]}, stream=True)
    write_records(tmp_path / "a.array_record", [text.encode()])
    for path in tmp_path.iterdir():
        assert set(documents(path)) == {text}, path
