"""Exit codes of the command: what a script may branch on."""

from enum import IntEnum

from vishwamai.client.errors import ClientError, NotFound, ServerFault, Unreachable
from vishwamai.contract.states import JobState


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    JOB_FAILED = 1
    INVALID = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    SERVER_ERROR = 5
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "done; with --watch: the job succeeded",
    ExitCode.JOB_FAILED: "the job watched failed or was cancelled",
    ExitCode.INVALID: "wrong usage, an invalid config, or a request that the job's state does not allow",
    ExitCode.NOT_FOUND: "no such job, checkpoint, setting or file",
    ExitCode.UNREACHABLE: "no control plane answers at the address",
    ExitCode.SERVER_ERROR: "the control plane answered with a fault of its own",
    ExitCode.INTERRUPTED: "interrupted; a job being watched goes on",
}

EPILOG = "\b\nExit codes:\n" + "\n".join(f"{code.value:5}  {meaning}" for code, meaning in MEANINGS.items())


def code_for(error: ClientError) -> ExitCode:
    """The exit code that an SDK error stands for."""
    match error:
        case Unreachable():
            return ExitCode.UNREACHABLE
        case NotFound():
            return ExitCode.NOT_FOUND
        case ServerFault():
            return ExitCode.SERVER_ERROR
        case _:
            return ExitCode.INVALID


def code_after(state: JobState) -> ExitCode:
    """The exit code of having watched a job to this end."""
    return ExitCode.OK if state is JobState.SUCCEEDED else ExitCode.JOB_FAILED
