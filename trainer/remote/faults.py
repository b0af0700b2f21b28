"""What goes wrong with an object store, told as whose fault it is.

A name that is wrong or a right that is missing is the user's (UserError: not retried). A store that does not answer, or
answers that it cannot, is not: by then its library has tried again and again, and the attempt ends as StorageError,
which the control plane retries.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.errors import StorageError, TrainerError, UserError

_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests", "s3fs", "urllib3"})
_LOCAL_FAULTS = frozenset({errno.EIO, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT})
_DENIED = (
    "forbidden",
    "accessdenied",
    "unable to locate credentials",
    "permission",
    "unauthorized",
    "anonymous caller",
    "invalid_grant",
)
_CREDENTIALS = {
    "s3": "give the trainer credentials that may read it (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)",
    "gs": "give the trainer credentials that may read it (GOOGLE_APPLICATION_CREDENTIALS, or the machine's account)",
}


@contextmanager
def blamed(address: str, field: str) -> Iterator[None]:
    """Raises what goes wrong inside as UserError or StorageError, naming the setting and the place; else as it is."""
    try:
        yield
    except TrainerError:
        raise
    except Exception as error:
        if (told := explained(error, address, field)) is None:
            raise
        raise told from error


def explained(error: Exception, address: str, field: str) -> TrainerError | None:
    """The error as the job's owner should read it; None for one that neither store nor disk made."""
    scheme = address.partition("://")[0] if "://" in address else ""
    words = _words(error)
    if isinstance(error, FileNotFoundError):
        return UserError(f"{field}: there is no {address!r}" + _bucket(error, scheme, address))
    if isinstance(error, PermissionError) or _denied(error, words):
        fix = _CREDENTIALS.get(scheme, "let the trainer read it")
        return UserError(f"{field}: {address!r} may not be read ({words}): {fix}")
    if _is_ours(error):
        return UserError(f"{field}: {address!r} is not an address that the store takes ({words}): correct it")
    if scheme and (_of_a_library(error) or isinstance(error, OSError | TimeoutError)):
        return StorageError(f"{field}: {address!r} cannot be read just now, after several tries ({words})")
    if isinstance(error, OSError):
        kind = StorageError if error.errno in _LOCAL_FAULTS else UserError
        return kind(f"{field}: cannot read {address!r}: {error.strerror or words}")
    return None


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _bucket(error: Exception, scheme: str, address: str) -> str:
    if scheme and "bucket" in str(error).lower():
        return f": the store has no bucket {address.partition('://')[2].split('/')[0]!r}"
    return ""


def _denied(error: Exception, words: str) -> bool:
    code = getattr(error, "code", None)
    if code in {401, 403, "401", "403"} or type(error).__name__ in {"NoCredentialsError", "DefaultCredentialsError"}:
        return True
    return (_of_a_library(error) or isinstance(error, OSError)) and any(one in words.lower() for one in _DENIED)


def _is_ours(error: Exception) -> bool:
    """Answers that say that the request itself is wrong."""
    return type(error).__name__ in {"ParamValidationError", "InvalidBucketName"} or (
        isinstance(error, ValueError) and str(error).startswith("Bad Request")
    )


def _of_a_library(error: Exception) -> bool:
    """Whether a library of an object store raised it, or fsspec for it."""
    names = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return bool(names & _LIBRARIES) or type(error).__name__ == "FSTimeoutError"
