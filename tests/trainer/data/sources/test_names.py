import errno
import os
import re
from pathlib import Path

import pytest

from tests.trainer.data.sources.reading import documents, refused
from trainer.data import builtin
from trainer.data.sources import identity, split
from trainer.errors import StorageError, UserError
from vishwamai.contract.config import BUILTIN_CORPUS


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
        (tmp_path / "itself.txt").symlink_to(tmp_path / "itself.txt")
        assert "there is no file" in refused(tmp_path / "itself.txt")
        os.mkfifo(tmp_path / "pipe.txt")
        assert "is a pipe or a device: write its text to a file" in refused(tmp_path / "pipe.txt")
        (tmp_path / "empty").mkdir()
        assert "is a folder" in refused(tmp_path / "empty")
        assert "'https://example.org/a.txt' is an address" in refused("https://example.org/a.txt")
        assert "'s3:///a.txt' names no bucket" in refused("s3:///a.txt")
        for name in ("a.zip", "a.tar.gz", "a.tgz"):
            (tmp_path / name).write_bytes(b"")
            assert "is an archive of other files: unpack it" in refused(tmp_path / name)

    def test_a_file_url(self, tmp_path):
        (tmp_path / "a.txt").write_text("one")
        assert documents(f"file://{tmp_path}/a.txt") == ["one"]

    @pytest.mark.parametrize(
        ("fault", "kind", "words"),
        [
            (PermissionError(errno.EACCES, "Permission denied"), UserError, "may not be read"),
            (IsADirectoryError(errno.EISDIR, "Is a directory"), UserError, "cannot read .*a.txt': Is a directory"),
            (OSError(errno.EIO, "Input/output error"), StorageError, "cannot read .*a.txt': Input/output error"),
        ],
    )
    def test_unreadable(self, tmp_path, monkeypatch, fault, kind, words):
        (tmp_path / "a.txt").write_text("one")

        def refuse(path, *arguments, **options):
            raise fault

        monkeypatch.setattr(Path, "open", refuse)
        assert re.search(words, refused(tmp_path / "a.txt", kind=kind))


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
        seen = set()
        for texts in (["a", "b"], ["a", "b"], ["ab"]):
            monkeypatch.setattr(builtin, "documents", lambda texts=texts: iter(texts))
            seen.add(identity([BUILTIN_CORPUS]))
        assert len(seen) == 2

    def test_units_are_files(self):
        assert split(["b", "a"]) == [["b"], ["a"]]
