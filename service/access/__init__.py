"""Who may call what."""

from service.access.credentials import Credentials, DamagedSecret
from service.access.origin import refused_origin
from service.access.people import People, Person

__all__ = ["Credentials", "DamagedSecret", "People", "Person", "refused_origin"]
