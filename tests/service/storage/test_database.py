import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event

from service.storage import DatabaseError, Store
from service.storage.database import connect, migrate, reading
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


def test_a_file_that_is_no_database_is_explained(url, tmp_path):
    (tmp_path / "service.sqlite3").write_bytes(b"nonsense " * 1000)
    with pytest.raises(DatabaseError, match=r"service.sqlite3 cannot be used: file is not a database"):
        Store.open(url)


def test_a_file_taken_away_is_noticed(store, tmp_path):
    store.create(queued("j1"))
    (tmp_path / "service.sqlite3").rename(tmp_path / "aside")
    with pytest.raises(DatabaseError, match="taken away"):
        store.create(queued("j2"))
    assert not (tmp_path / "service.sqlite3").exists()
    (tmp_path / "aside").rename(tmp_path / "service.sqlite3")
    store.create(queued("j3"))
    assert [job.id for job in store.live_jobs()] == ["j1", "j3"]


def test_a_full_disk_loses_nothing_and_is_over_once_there_is_room(store):
    store.create(queued("j1"))
    with reading(store._engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    event.listen(store._engine, "checkout", lambda raw, *_: raw.execute(f"PRAGMA max_page_count = {limit[0]}"))
    limit = [pages]
    fill = (store.create(queued(f"k{number}")) for number in range(1000))
    with pytest.raises(DatabaseError) as caught:
        list(fill)
    assert caught.value.why == "database or disk is full"
    kept = [job.id for job in store.live_jobs()]
    limit = [pages * 1000]
    store.create(queued("z"))
    assert [job.id for job in store.live_jobs()] == [*kept, "z"]
    assert kept == ["j1", *sorted(kept[1:])]


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
