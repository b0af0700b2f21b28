"""Where jobs live. Only this package speaks SQL; everyone else calls Store."""

from service.storage.database import DatabaseError
from service.storage.errors import FencedAttempt, ForbiddenMove, KeyReused, UnknownJob, Unstorable
from service.storage.intake import Retention
from service.storage.logs import LogFilter
from service.storage.series import Point
from service.storage.store import JobFilter, Store

__all__ = [
    "DatabaseError",
    "FencedAttempt",
    "ForbiddenMove",
    "JobFilter",
    "KeyReused",
    "LogFilter",
    "Point",
    "Retention",
    "Store",
    "UnknownJob",
    "Unstorable",
]
