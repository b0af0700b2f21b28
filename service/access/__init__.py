"""Who may call what."""

from service.access.credentials import Credentials
from service.access.origin import refused_origin

__all__ = ["Credentials", "refused_origin"]
