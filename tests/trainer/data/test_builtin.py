import pytest

from tests.trainer.data.sources.reading import documents
from trainer.data import builtin
from trainer.errors import UserError
from vishwamai.contract.config import BUILTIN_CORPUS


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
