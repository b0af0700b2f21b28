"""Corpora in object stores: the same names, formats and faults as on disk."""

import gzip
import re
import time
from pathlib import Path

import pytest

from tests.trainer.data.corpora import write_parquet
from tests.trainer.data.sources.reading import documents, refused
from tests.trainer.data.sources.test_formats import SAVED, write_records
from tests.trainer.stores import do_not_wait, failing_server, put, status, use_gcs, use_s3
from trainer.data.sources import expand, identity
from trainer.errors import StorageError

every_store = pytest.mark.parametrize("store", ["memory", "s3", "gs"], indirect=True)


@every_store
class TestEveryStore:
    def test_globs_and_formats(self, store, tmp_path):
        put(f"{store}/a/1.txt", b"one")
        put(f"{store}/a/b/2.jsonl.gz", gzip.compress(b'{"text": "two"}\n{"text": "three"}'))
        put(f"{store}/a/b/3.parquet", write_parquet(tmp_path / "p", {"n": [1, 2], "text": ["4", "5"]}).read_bytes())
        put(f"{store}/a/.hidden.txt", b"not this")
        put(f"{store}/r.array_record", write_records(tmp_path / "r", [b"six"]).read_bytes())
        assert documents(f"{store}/a/**/*.*") == ["one", "two", "three", "4", "5"]
        assert expand([f"{store}/a/*.txt"], "data.train") == [f"{store}/a/1.txt"]
        assert documents(f"{store}/a/1.txt", f"{store}/r.array_record", f"{store}/a/1.txt") == ["one", "six"]

    def test_a_saved_dataset(self, store):
        for path in (SAVED / "train").iterdir():
            put(f"{store}/saved/{path.name}", path.read_bytes())
        assert documents(f"{store}/saved") == documents(SAVED / "train")
        put(f"{store}/other/1.txt", b"one")
        assert f"'{store}/other/' is a folder: name its files, e.g. '{store}/other/**/*.txt'" in refused(
            f"{store}/other/"
        )

    def test_what_is_not_there(self, store):
        put(f"{store}/1.txt", b"one")
        assert f"data.train: there is no object '{store}/2.txt'" in refused(f"{store}/2.txt")
        assert f"data.train: no object matches '{store}/*.md'" in refused(f"{store}/*.md")

    def test_identity_follows_the_objects(self, store):
        files = [put(f"{store}/{name}.txt", b"one") for name in "ab"] + [put(f"{store}/c/d.txt", b"one")]
        seen = [identity(files), identity(files[:1]), identity(files[::-1])]
        assert identity(files) == seen[0]
        put(files[0], b"two")  # as long as before
        put(files[2], b"two")
        seen += [identity(files), identity(files[:1]), identity(files[2:])]
        assert len(set(seen)) == 6

    def test_one_that_is_larger_than_a_request(self, store, monkeypatch):
        monkeypatch.setattr("trainer.remote.addresses._BLOCK", 5000)
        content = b"".join(b'{"text": "%d"}\n' % n for n in range(2000))
        assert documents(put(f"{store}/a.jsonl", content)) == [str(n) for n in range(2000)]


class TestBuckets:
    @pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)
    @pytest.mark.parametrize("name", ["*.txt", "a.txt"])
    def test_no_such_bucket(self, store, name):
        scheme = store.partition("://")[0]
        assert f"there is no bucket 'nowhere' for '{scheme}://nowhere/{name}'" in refused(f"{scheme}://nowhere/{name}")

    def test_a_name_that_no_bucket_has(self, s3):
        assert "is not an address that the store takes" in refused("s3://No_Bucket!/a.txt")

    def test_no_credentials(self, monkeypatch, s3_endpoint, tmp_path):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        use_s3(monkeypatch, s3_endpoint, client_kwargs={"region_name": "us-east-2"})
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        message = refused("s3://corpora/a.txt")
        assert "'s3://corpora/a.txt' may not be read" in message
        assert "AWS_ACCESS_KEY_ID" in message

    @pytest.mark.parametrize("code", [401, 403])
    def test_no_permission(self, monkeypatch, code):
        do_not_wait(monkeypatch)
        with failing_server(status(code, b'{"error": {"message": "Anonymous caller"}}')) as (endpoint, _):
            use_gcs(monkeypatch, endpoint)
            message = refused("gs://corpora/a.txt")
            assert "'gs://corpora/a.txt' may not be read" in message
            assert "GOOGLE_APPLICATION_CREDENTIALS" in message
            use_s3(monkeypatch, endpoint)
            assert "'s3://corpora/*.txt' may not be read" in refused("s3://corpora/*.txt")


QUICK = {"connect_timeout": 0.3, "read_timeout": 0.3, "retries": {"total_max_attempts": 2, "mode": "standard"}}


class TestFaults:
    """What is not the user's fault is tried again, and then ends the attempt in a way that is retried."""

    def test_s3_recovers(self, monkeypatch, s3_endpoint, s3):
        put(f"{s3}/a.txt", b"one")
        broken = iter([True])
        with failing_server(lambda handler: forward_or_fail(handler, s3_endpoint, broken)) as (endpoint, requests):
            use_s3(monkeypatch, endpoint)
            assert documents(f"{s3}/a.txt") == ["one"]
        assert len(requests) >= 3, "the first was answered by 503"

    def test_s3_stays_away(self, monkeypatch):
        with failing_server(status(503)) as (endpoint, requests):
            use_s3(monkeypatch, endpoint, config_kwargs=QUICK)
            message = refused("s3://corpora/a.txt", kind=StorageError)
        assert "'s3://corpora/a.txt' cannot be read just now, after several tries" in message
        assert len(requests) >= 2

    def test_s3_hangs(self, monkeypatch):
        with failing_server(lambda handler: time.sleep(1)) as (endpoint, requests):
            use_s3(monkeypatch, endpoint, config_kwargs=QUICK | {"read_timeout": 0.05})
            assert "imeout" in refused("s3://corpora/a.txt", kind=StorageError)
        assert len(requests) >= 2

    def test_google_stays_away(self, monkeypatch):
        do_not_wait(monkeypatch)
        with failing_server(status(503)) as (endpoint, requests):
            use_gcs(monkeypatch, endpoint)
            message = refused("gs://corpora/a.txt", kind=StorageError)
        assert "'gs://corpora/a.txt' cannot be read just now, after several tries" in message
        assert len(requests) >= 6

    def test_google_hangs(self, monkeypatch):
        do_not_wait(monkeypatch)
        monkeypatch.setattr("trainer.remote.addresses.READ_SECONDS", 0.05)
        with failing_server(lambda handler: time.sleep(1)) as (endpoint, requests):
            use_gcs(monkeypatch, endpoint)
            assert "Timeout" in refused("gs://corpora/a.txt", kind=StorageError)
        assert len(requests) >= 6

    def test_nobody_listens(self, monkeypatch):
        do_not_wait(monkeypatch)
        with failing_server(status(503)) as (endpoint, _):
            pass
        use_s3(monkeypatch, endpoint, config_kwargs=QUICK)
        assert "EndpointConnectionError" in refused("s3://corpora/a.txt", kind=StorageError)
        use_gcs(monkeypatch, endpoint)
        assert "ClientConnectorError" in refused("gs://corpora/a.txt", kind=StorageError)

    def test_a_store_that_breaks_off(self, s3, monkeypatch):
        """A fault in the middle of a compressed object is the store's, and no damage to the object."""
        import s3fs.core

        put(f"{s3}/a.jsonl.gz", gzip.compress(b'{"text": "one"}\n'))
        monkeypatch.setattr(s3fs.core, "_fetch_range", broken_off)
        assert "cannot be read just now" in refused(f"{s3}/a.jsonl.gz", kind=StorageError)
        put(f"{s3}/a.parquet", b"PAR1" * 1000)
        assert "cannot be read just now" in refused(f"{s3}/a.parquet", kind=StorageError)


def broken_off(*arguments, **options):
    raise ConnectionResetError("the peer is gone")


def forward_or_fail(handler, endpoint: str, broken) -> None:
    """503 while `broken` has more, else what the endpoint answers."""
    import http.client

    if next(broken, False):
        status(503)(handler)
        return
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"))
    connection.request(handler.command, handler.path, headers=dict(handler.headers))
    answer = connection.getresponse()
    content = answer.read()
    handler.send_response(answer.status)
    for name, value in answer.getheaders():
        if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
            handler.send_header(name, value)
    length = answer.getheader("Content-Length") if handler.command == "HEAD" else str(len(content))
    handler.send_header("Content-Length", length or "0")
    handler.end_headers()
    handler.wfile.write(content)
    connection.close()


def test_nothing_of_it_is_imported_before_an_address_is_read():
    library = re.compile(r"^(import|from) (fsspec|s3fs|gcsfs|botocore|aiohttp)\b", re.MULTILINE)
    for path in (Path(__file__).parents[4] / "trainer").rglob("*.py"):
        assert not library.search(path.read_text()), f"{path} imports one of them at once"
