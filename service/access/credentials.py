"""The credential with which a job's trainers report, and only about that job.

token = HMAC-SHA256(secret, "reports:" + job id): nothing to store per job, and the same after a restart.
"""

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path


class DamagedSecret(ValueError):
    """The file of the secret holds something else; the message says what to do."""


class Credentials:
    """Makes and checks tokens under one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def load(cls, path: Path) -> "Credentials":
        """Reads the secret, made on the first call as a file that only its owner can read. Raises DamagedSecret."""
        if not path.exists():
            _create(path)
        try:
            secret = bytes.fromhex(path.read_text(encoding="utf-8").strip())
        except ValueError:
            secret = b""
        if len(secret) < 32:
            raise DamagedSecret(f"{path} does not hold 32 bytes in hexadecimal; delete it and trainers get new tokens")
        return cls(secret)

    def token_for(self, job_id: str) -> str:
        """The token of this job's trainers."""
        return hmac.new(self._secret, b"reports:" + job_id.encode(), sha256).hexdigest()

    def admits(self, job_id: str, token: str) -> bool:
        """True when the token is this job's; takes the same time whatever it holds."""
        return hmac.compare_digest(self.token_for(job_id).encode(), token.encode())


def _create(path: Path) -> None:
    """Writes a new secret whole or not at all; where two processes do, the first one's stays."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(descriptor)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
