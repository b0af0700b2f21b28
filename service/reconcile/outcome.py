"""Why an attempt ended: its exit codes and its own last report, weighed against each other.

The trainer says why it ends twice, in a `finished` report and by its exit code. The report knows more; the code comes
later and cannot be lost on the way. So the report decides where the two agree, where the code is missing, and where the
code only says that the process broke down or was killed on its way out. Otherwise the code decides.
"""

import signal

from service.records import AttemptRecord, Observation
from vishwamai.contract.states import Cause, cause_of_exit


def conclude(attempt: AttemptRecord, seen: Observation) -> tuple[Cause, str]:
    """The cause of an attempt's end and one sentence on it, given that none of its processes is left."""
    reported, code = attempt.reported_cause, _telling_code(seen.exit_codes)
    if reported is not None and _agrees(reported, code):
        return reported, attempt.reported_message or _describe(code, seen)
    if code is None:
        return Cause.HOST_ERROR, seen.message or _describe(code, seen)
    return cause_of_exit(code), _describe(code, seen)


def _telling_code(codes: dict[int, int]) -> int | None:
    """The exit code that explains the others: a trainer's own before a signal's, a signal's before success."""
    if not codes:
        return None
    failed = [codes[process] for process in sorted(codes) if codes[process] != 0]
    chosen = [code for code in failed if not _is_signal(code)]
    return next(iter(chosen or failed), 0)


def _agrees(reported: Cause, code: int | None) -> bool:
    if code is None or _is_signal(code) or cause_of_exit(code) == reported:
        return True
    # A crash after the last word does not unsay a failure, but a run that crashes may not have finished its work.
    return cause_of_exit(code) == Cause.INTERNAL and reported != Cause.COMPLETED


def _is_signal(code: int) -> bool:
    return code < 0 or code in {128 + signal.SIGKILL, 128 + signal.SIGTERM}


def _describe(code: int | None, seen: Observation) -> str:
    last = next((line.strip() for line in reversed(seen.last_lines) if line.strip()), "")
    said = f"; its last line was: {last[:300]}" if last else ""
    if code is None:
        return f"The trainer's processes vanished, and nobody saw their exit code{said}"
    if code == 0:
        return "The trainer ended."
    if _is_signal(code):
        number = -code if code < 0 else code - 128
        return f"The trainer was ended by {_signal_name(number)}{said}"
    return f"The trainer ended with exit code {code}{said}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
