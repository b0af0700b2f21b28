import errno
import os
from pathlib import Path

import pytest

from tests.trainer.data.corpora import TEXTS, open_corpus, write_jsonl, write_parquet
from trainer.data import builtin
from trainer.data.sources import expand, identity, read, split
from trainer.errors import UserError
from vishwamai.contract.config import BUILTIN_CORPUS, DataSection


def documents(*locations, **settings):
    return list(
        read(expand([str(location) for location in locations], "data.train"), DataSection(**settings), "data.train")
    )


def refused(*locations, **settings):
    """The message with which these locations are refused."""
    with pytest.raises(UserError) as caught:
        documents(*locations, **settings)
    assert str(caught.value).startswith("data.train: ")
    return str(caught.value)


class TestFormats:
    def test_a_text_file_is_one_document(self, tmp_path):
        (tmp_path / "a.md").write_bytes("\ufeffgrüß\r\ndich\n".encode())
        assert documents(tmp_path / "a.md") == ["grüß\r\ndich\n"]

    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.JSONL"])
    def test_json_lines(self, tmp_path, name):
        (tmp_path / name).write_text('\ufeff{"text": "one"}\n\n{"text": null}\r\n{"text": "two", "n": 2}')
        assert documents(tmp_path / name) == ["one", "", "two"]

    def test_parquet(self, tmp_path):
        write_parquet(tmp_path / "a.parquet", {"n": [1, 2, 3], "body": ["one", None, "three"]})
        assert documents(tmp_path / "a.parquet", text_field="body") == ["one", "", "three"]

    def test_the_format_may_be_named(self, tmp_path):
        (tmp_path / "a.data").write_text('{"text": "one"}\n')
        assert documents(tmp_path / "a.data", format="jsonl") == ["one"]
        assert documents(tmp_path / "a.data", format="text") == ['{"text": "one"}\n']


class TestNames:
    def test_globs_are_sorted_and_each_file_is_read_once(self, tmp_path):
        for name in ("b.txt", "a.txt", "deep/er/c.txt", ".hidden.txt", "d.md"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        assert documents(tmp_path / "*.txt") == ["a.txt", "b.txt"]
        assert documents(tmp_path / "**" / "*.txt") == ["a.txt", "b.txt", "deep/er/c.txt"]
        assert documents(tmp_path / "b.txt", tmp_path / "*.txt") == ["b.txt", "a.txt"]

    def test_a_name_with_brackets_is_itself_when_it_exists(self, tmp_path):
        (tmp_path / "a[1].txt").write_text("one")
        assert documents(tmp_path / "a[1].txt") == ["one"]

    def test_missing(self, tmp_path):
        assert "there is no file" in refused(tmp_path / "none.txt")
        assert "no file matches" in refused(tmp_path / "*.txt")
        (tmp_path / "empty").mkdir()
        assert "is a folder" in refused(tmp_path / "empty")
        assert "'https://example.org/a.txt' is an address" in refused("https://example.org/a.txt")
        (tmp_path / "a.jsonl.gz").write_bytes(b"")
        assert "is compressed" in refused(tmp_path / "a.jsonl.gz")

    def test_unreadable(self, tmp_path, monkeypatch):
        (tmp_path / "a.txt").write_text("one")

        def refuse(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(Path, "read_bytes", refuse)
        assert "a.txt': Permission denied" in refused(tmp_path / "a.txt")


class TestIdentity:
    def test_it_changes_with_order_name_size_and_time(self, tmp_path):
        for name in "ab":
            (tmp_path / name).write_text(name)
        one, two = (str(tmp_path / name) for name in "ab")
        seen = [identity([one, two]), identity([two, one]), identity([one])]
        os.utime(one, ns=(0, 0))
        seen.append(identity([one, two]))
        os.utime(one, ns=(0, 0))
        assert identity([one, two]) == seen[-1]
        (tmp_path / "a").write_text("aa")
        os.utime(one, ns=(0, 0))
        seen.append(identity([one, two]))
        assert len(set(seen)) == len(seen) == 5

    def test_the_demo_corpus_is_known_by_its_text(self, monkeypatch):
        before = identity([BUILTIN_CORPUS])
        assert identity([BUILTIN_CORPUS]) == before
        monkeypatch.setattr(builtin, "MAX_BYTES", builtin.MAX_BYTES // 2)
        assert identity([BUILTIN_CORPUS]) != before

    def test_units_are_files(self):
        assert split(["b", "a"]) == [["b"], ["a"]]


class TestDamage:
    def test_not_utf8(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"caf\xe9 au lait")
        assert "a.txt' is not UTF-8: byte 3 is 0xe9" in refused(tmp_path / "a.txt")
        (tmp_path / "a.jsonl").write_bytes(b'{"text": "ok"}\n{"text": "caf\xe9"}\n')
        assert "a.jsonl:2 is not UTF-8: byte 13 of the line is 0xe9" in refused(tmp_path / "a.jsonl")

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('{"text": "cut', "is not JSON"),
            ('["text"]', "holds a JSON list, not an object"),
            ('{"body": "one", "id": 2}', "has no field 'text', only 'body', 'id': set data.text_field"),
            ("{}", "only none"),
            ('{"text": 3}', "holds int, not a string"),
            ('{"text": "\\ud800"}', "half a surrogate pair"),
        ],
    )
    def test_a_bad_line(self, tmp_path, line, words):
        (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' + line + "\n")
        message = refused(tmp_path / "a.jsonl")
        assert "a.jsonl:2" in message
        assert words in message

    def test_bad_parquet(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", {"n": [1], "body": ["one"]})
        assert "has no column 'text', only 'n', 'body': set data.text_field" in refused(path)
        assert "column 'n' of" in refused(path, text_field="n")
        path.write_bytes(b"PAR1 and nothing else")
        assert "is not a Parquet file" in refused(path)

    def test_cut_parquet(self, tmp_path):
        path = write_parquet(tmp_path / "a.parquet", {"text": [f"{n} " * 50 for n in range(1000)]})
        content = bytearray(path.read_bytes())
        content[50:150] = bytes(100)
        path.write_bytes(content)
        assert "is damaged" in refused(path)


class TestNothingToTrainOn:
    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
    def test_an_empty_file(self, tmp_path, name):
        (tmp_path / name).write_text("")
        with pytest.raises(UserError, match=rf"data\.train: there is no text in .*{name}"):
            open_corpus(tmp_path / name)

    def test_only_short_documents(self, tmp_path):
        write_jsonl(tmp_path / "a.jsonl", ["abc", "de"])
        with pytest.raises(
            UserError, match=r"data\.train: data\.min_length 4 left out every document \(2\) of .*a\.jsonl"
        ):
            open_corpus(tmp_path / "a.jsonl", data={"min_length": 4})

    def test_an_empty_eval_file(self, tmp_path):
        write_jsonl(tmp_path / "a.jsonl", TEXTS)
        (tmp_path / "b.txt").write_text("")
        with pytest.raises(UserError, match=r"data\.eval: there is no text in .*b\.txt"):
            open_corpus(tmp_path / "a.jsonl", data={"eval": [str(tmp_path / "b.txt")]})


class TestBuiltinCorpus:
    def test_source_and_reference_of_python(self):
        texts = documents(BUILTIN_CORPUS)
        size = sum(len(text.encode()) for text in texts)
        assert 0.9 * builtin.MAX_BYTES < size <= builtin.MAX_BYTES
        assert sum("\nimport " in text or "\nfrom " in text for text in texts) > 100
        assert any(text.startswith('The "with" statement') for text in texts)

    def test_it_is_the_same_every_time(self):
        assert documents(BUILTIN_CORPUS) == documents(BUILTIN_CORPUS)

    def test_what_is_not_the_library_is_left_out(self, tmp_path):
        for name in (
            "kept.py",
            "pkg/kept.py",
            "site-packages/x.py",
            "test/x.py",
            "pkg/tests/x.py",
            "_sysconfigdata__l.py",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"# {name}")
        texts = [text for text in builtin.documents(tmp_path) if text.startswith("# ")]
        assert texts == ["# kept.py", "# pkg/kept.py"]

    def test_a_python_without_source(self, tmp_path):
        with pytest.raises(UserError, match=r"'builtin:python' reads the standard library's source"):
            list(builtin.documents(tmp_path))
