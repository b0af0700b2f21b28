"""What storage refuses to do, and why."""

from vishwamai.contract.states import JobState


class UnknownJob(LookupError):
    """There is no job of this id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"there is no job {job_id!r}")


class ForbiddenMove(Exception):
    """The job is in a state that does not allow this; it may have changed since the caller looked."""

    def __init__(self, job_id: str, state: JobState, wish: str) -> None:
        self.job_id = job_id
        self.state = state
        super().__init__(f"job {job_id} is {state} and cannot {wish}")


class FencedAttempt(Exception):
    """A report from an attempt that is not the job's newest."""

    def __init__(self, job_id: str, attempt: int, newest: int) -> None:
        self.attempt = attempt
        self.newest = newest
        if attempt > newest:
            message = f"attempt {attempt} of job {job_id} has not begun (newest: {newest})"
        else:
            message = f"attempt {attempt} of job {job_id} is over: attempt {newest} has taken its place"
        super().__init__(message)


class Unstorable(ValueError):
    """A value that no database can hold: a number too large, half a character, a time before the calendar begins."""


class KeyReused(Exception):
    """The idempotency key was used for another request."""

    def __init__(self, key: str, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"Idempotency-Key {key!r} already belongs to another request, which made job {job_id}")
