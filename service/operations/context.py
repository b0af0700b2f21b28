"""What every operation works with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.kubernetes.site import Cluster
from service.launchers.base import Launcher
from service.operations.changes import Changes
from service.storage import Store


def utc_now() -> datetime:
    """The time, with offset."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Context:
    """The service's parts, passed to each operation."""

    store: Store
    launcher: Launcher
    changes: Changes
    wake: Callable[[], None]
    """Makes the reconcile loop look at once; may be called from any thread."""
    clock: Callable[[], datetime] = utc_now
    teachers: Mapping[str, str] = field(default_factory=dict)
    """Folders of teachers by name."""
    cluster: Cluster = field(default_factory=Cluster)
    """For which manifests are rendered."""
