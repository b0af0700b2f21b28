"""Object stores through fsspec, which is imported when it is needed: `gs://`, `s3://`, and `memory://` for tests."""

from trainer.remote.addresses import Remote, is_address, remote, version
from trainer.remote.faults import blamed

__all__ = ["Remote", "blamed", "is_address", "remote", "version"]
