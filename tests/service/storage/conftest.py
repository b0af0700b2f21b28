from collections.abc import Iterator
from pathlib import Path

import pytest

from service.storage import Store


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'service.sqlite3'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url, log_bytes_per_job=20_000)
    yield store
    store.close()
