"""Who may call what."""

from service.access.credentials import Credentials, DamagedSecret
from service.access.origin import refused_origin

__all__ = ["Credentials", "DamagedSecret", "refused_origin"]
