from collections.abc import Iterator
from pathlib import Path

import pytest

from service.storage import Retention, Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'service.sqlite3'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url, kept=Retention(log_bytes=20_000, steps=30))
    yield store
    store.close()
