import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.access import Credentials


def test_the_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "secret"
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: Credentials.load(path).token_for("j1"), range(8)))
    assert len(set(tokens)) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_token_opens_its_own_job_under_its_own_secret():
    ours, theirs = Credentials(b"a" * 32), Credentials(b"b" * 32)
    token = ours.token_for("j1")
    assert ours.admits("j1", token)
    assert not any(
        (ours.admits("j2", token), theirs.admits("j1", token), ours.admits("j1", ""), ours.admits("j1", "ü"))
    )


def test_a_damaged_secret_is_not_used(tmp_path):
    path = tmp_path / "secret"
    path.write_text("abcd")
    with pytest.raises(ValueError, match="32 bytes"):
        Credentials.load(path)
