"""Who may call what."""

from service.access.credentials import Credentials, DamagedSecret
from service.access.origin import refused_origin
from service.access.people import DamagedTokens, People, Person

__all__ = ["Credentials", "DamagedSecret", "DamagedTokens", "People", "Person", "refused_origin"]
