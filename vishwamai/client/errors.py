"""What can go wrong between a caller and the control plane, one class for each thing a caller may do about it."""

from vishwamai.contract.problems import Notice, Problem, ProblemDocument


class ClientError(Exception):
    """Everything this SDK raises."""


class BadAddress(ClientError):
    """What was given is not the address of anything."""

    def __init__(self, server: str, fix: str = "write it like http://127.0.0.1:8000") -> None:
        super().__init__(f"the control plane's address {server!r} is not a URL; {fix}")


class Unreachable(ClientError):
    """No answer to be had now: a refused or lost connection, a time-out, or a 429, 502, 503 or 504 (`unavailable`)."""

    def __init__(self, server: str, why: str, *, unavailable: bool = False) -> None:
        self.server = server
        self.why = why
        there = f"the control plane at {server} cannot answer now ({why}); try again in a moment"
        nowhere = f"no control plane at {server} ({why}); start one with: vishwamai serve"
        super().__init__(there if unavailable else nowhere)


class ApiError(ClientError):
    """The control plane answered with a problem document."""

    def __init__(self, problem: ProblemDocument) -> None:
        self.problem = problem
        super().__init__(f"{problem.title}: {problem.detail}" if problem.detail else problem.title)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def errors(self) -> list[Problem]:
        """Every place of the request that is wrong."""
        return self.problem.errors

    @property
    def warnings(self) -> list[Notice]:
        """What the author should know besides."""
        return self.problem.warnings


class InvalidRequest(ApiError):
    """The request is at fault (4xx): mend the config or the arguments."""


class NotFound(ApiError):
    """No such job, checkpoint or page (404)."""


class Conflict(ApiError):
    """The job's state does not allow it, or the idempotency key belongs to another config (409)."""


class ServerFault(ApiError):
    """The control plane is at fault (5xx), or what answers is not a control plane."""


def error_from(problem: ProblemDocument) -> ApiError:
    """The exception for a problem document, by its status."""
    if problem.status == 404:
        return NotFound(problem)
    if problem.status == 409:
        return Conflict(problem)
    return InvalidRequest(problem) if 400 <= problem.status < 500 else ServerFault(problem)
