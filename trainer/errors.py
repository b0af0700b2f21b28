"""Ends of a run that have a name."""

from vishwamai.contract.states import Cause


class TrainerError(Exception):
    """The run cannot go on; `cause` picks the exit code, the message is for the job's owner."""

    cause = Cause.INTERNAL


class UserError(TrainerError):
    """The config or the data is at fault: the message names the field, the value and the fix."""

    cause = Cause.USER_ERROR


class NonFiniteError(TrainerError):
    """The loss or the gradients stopped being numbers."""

    cause = Cause.NON_FINITE

    def __init__(self, message: str, first_step: int | None = None, last_step: int | None = None) -> None:
        """`first_step` and `last_step`: the bad steps in a row; the last is the first where only one is given."""
        super().__init__(message)
        self.first_step = first_step
        self.last_step = first_step if last_step is None else last_step


class LossSpike(NonFiniteError):
    """The loss is a number, and far above those before."""


class StorageError(TrainerError):
    """A folder or disk failed; what was committed before is safe."""

    cause = Cause.HOST_ERROR
