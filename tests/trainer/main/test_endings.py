import errno

import pytest

from trainer.endings import ending_of
from trainer.errors import NonFiniteError, StorageError, UserError
from trainer.orders import EndOrder, Ordered
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.states import CAUSES, Cause


@pytest.mark.parametrize(
    ("error", "cause", "exit_code"),
    [
        (UserError("data.train: no such file"), Cause.USER_ERROR, 2),
        (InvalidConfig([Problem(pointer="/model", message="no")]), Cause.USER_ERROR, 2),
        (MemoryError(), Cause.OUT_OF_MEMORY, 70),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes"), Cause.OUT_OF_MEMORY, 70),
        (
            RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 4398046511104 bytes."),
            Cause.OUT_OF_MEMORY,
            70,
        ),
        (NonFiniteError("loss nan at step 3"), Cause.NON_FINITE, 71),
        (Ordered(EndOrder(Cause.PREEMPTED, "Stopped by SIGTERM")), Cause.PREEMPTED, 73),
        (StorageError("disk"), Cause.HOST_ERROR, 74),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), Cause.HOST_ERROR, 74),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), Cause.USER_ERROR, 2),
        (Ordered(EndOrder(Cause.CANCELLED, "cancelled")), Cause.CANCELLED, 75),
        (PermissionError(errno.EACCES, "Permission denied"), Cause.INTERNAL, 1),
        (ZeroDivisionError("division by zero"), Cause.INTERNAL, 1),
    ],
)
def test_every_end_has_a_cause_an_exit_code_and_a_message(error, cause, exit_code):
    found, message = ending_of(error)
    assert found is cause
    assert CAUSES[found].exit_code == exit_code
    assert message
    assert "\n" not in message
