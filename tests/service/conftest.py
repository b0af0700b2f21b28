from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.plane import FakeLauncher, Plane


@pytest.fixture(autouse=True, scope="session")
def plain_log() -> None:
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, tick_seconds=0.02, max_running_jobs=100)


@pytest.fixture
def plane(settings: Settings) -> Iterator[Plane]:
    with running(settings) as plane:
        yield plane


@pytest.fixture(scope="session")
def idle_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """For requests that leave nothing behind."""
    with running(Settings(data_dir=tmp_path_factory.mktemp("idle"))) as plane:
        yield plane
        assert plane.client.get("/jobs").json()["jobs"] == []


@contextmanager
def running(settings: Settings) -> Iterator[Plane]:
    launcher = FakeLauncher()
    app = create_app(settings, launcher)
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield Plane(app, client, launcher)
