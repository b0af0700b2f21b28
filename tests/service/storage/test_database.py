import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.storage import DatabaseError, Store
from service.storage.database import connect, migrate
from service.storage.tables import metadata
from tests.service.records import LATER, NOW, queued, running
from vishwamai.contract.states import JobState


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(url):
    engine = connect(url)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_several_services_may_migrate_at_once(url):
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: Store.open(url), range(6)))
    stores[0].create(queued())
    assert [job.id for job in stores[5].live_jobs()] == ["j1"]
    for store in stores:
        store.close()


def test_a_commit_survives_a_crash(url):
    engine = connect(url)
    with engine.connect() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert pragmas == ["wal", 2]
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_what_was_stored_is_there_after_reopening(url):
    first = Store.open(url)
    running(first)
    first.close()
    second = Store.open(url)
    record = second.job("j1")
    assert record is not None
    assert (record.state, record.created_at, len(record.attempts)) == (JobState.STARTING, NOW, 1)
    assert record.resolved == queued().resolved
    second.close()


def test_a_database_of_a_later_release_is_refused(url, tmp_path):
    Store.open(url).close()
    with sqlite3.connect(tmp_path / "service.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(DatabaseError, match="another release"):
        Store.open(url)


@pytest.mark.parametrize(
    "url",
    ["sqlite:////nowhere/at/all.sqlite3", "nonsense", "postgresql+nodriver://x/y"],
    ids=["folder", "url", "driver"],
)
def test_a_database_that_cannot_be_opened_is_explained(url):
    with pytest.raises(DatabaseError, match=r"nowhere|VISHWAMAI_DATABASE_URL"):
        Store.open(url)


def test_a_time_without_offset_is_refused(store):
    store.create(queued())
    with pytest.raises(Exception, match="names no moment"):
        store.begin_attempt("j1", 1, datetime(2026, 1, 1))  # noqa: DTZ001
    assert store.job("j1").attempts == ()


def test_every_change_is_told_once_it_is_on_disk(url):
    told = []

    def state_of(job_id):
        record = store.job(job_id)
        return record and record.state

    store = Store.open(url, on_change=lambda job_id: told.append((job_id, state_of(job_id))))
    store.create(queued())
    store.request_stop("j1", "save", LATER)
    assert told == [("j1", "queued"), ("j1", "cancelled")]
    store.close()
