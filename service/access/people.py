"""People and programs that may call the service: a file of their names, what they may do, and hashes of their tokens.

    tokens:
      - {name: alice, role: write, sha256: 5e88...}
      - {name: grafana, role: read, sha256: 9b74...}

A token is 32 random bytes, so a plain hash of it gives nothing away; `python -m service token NAME` makes one.
"""

import hmac
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.settings import SettingsError
from service.setup_files import read_setup

Role = Literal["read", "write"]
"""read: look; write: submit and steer, too."""
TOKENS_FILE = "VISHWAMAI_TOKENS_FILE"
_PREFIX = "vw_"
"""Lets scanners of leaked secrets know what they found."""
_SAFE = {"GET", "HEAD", "OPTIONS"}


class Person(BaseModel):
    """One who may call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200)
    role: Role = "write"
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    def may(self, method: str) -> bool:
        """Whether the role allows a request with this method."""
        return self.role == "write" or method in _SAFE


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tokens: list[Person] = Field(min_length=1)


class People:
    """All who may call."""

    def __init__(self, people: list[Person]) -> None:
        self._people = people

    @classmethod
    def read(cls, path: Path) -> "People":
        """Those whom a YAML or JSON file lists. Raises SettingsError; its message holds no hash."""
        people = read_setup(_File, TOKENS_FILE, path, secret=True).tokens
        names = [person.name for person in people]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SettingsError(f"{TOKENS_FILE}={str(path)!r} lists {twice!r} twice: give each token a name of its own")
        return cls(people)

    def caller(self, authorization: str) -> Person | None:
        """Whose token a header 'Bearer TOKEN' holds; takes the same time whoever it is."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = sha256(token.strip().encode()).hexdigest()
        found = [person for person in self._people if hmac.compare_digest(person.sha256, digest)]
        return found[0] if found else None


def new_token(name: str, role: Role) -> tuple[str, str]:
    """A token, which is shown once, and the line for the file of tokens."""
    token = _PREFIX + secrets.token_urlsafe(32)
    person = Person(name=name, role=role, sha256=sha256(token.encode()).hexdigest())
    return token, f"  - {person.model_dump_json()}"
