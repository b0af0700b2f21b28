"""Taking a trainer's report, and telling it what the job's owner wants."""

from service.operations.context import Context
from vishwamai.contract.problems import Problem
from vishwamai.contract.reports import Directive, Report, ReportReceipt


class InvalidReport(ValueError):
    """The report cannot be taken; `problems` say why."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(problem.message for problem in problems))


def take(context: Context, job_id: str, report: Report) -> ReportReceipt:
    """Stores the report once. Raises UnknownJob, FencedAttempt, InvalidReport."""
    problems = [
        Problem(
            pointer=f"/events/{place}/time",
            message=f"time {event.time.isoformat()} has no offset",
            accepted="an RFC 3339 time with offset, e.g. 2026-11-23T16:00:00Z",
        )
        for place, event in enumerate(report.events)
        if event.time.utcoffset() is None
    ]
    if problems:
        raise InvalidReport(problems)
    receipt = context.store.store_report(job_id, report, context.clock())
    # A process that still reports for a job that is over was forgotten by whoever ended it.
    wanted: Directive = "continue" if receipt.save is None else "save"
    if receipt.stop is not None or receipt.state.is_terminal:
        wanted = "stop"
    return ReportReceipt(
        accepted=receipt.accepted,
        seq=receipt.seq,
        directive=wanted,
        save=receipt.stop != "now",
        request=receipt.save,
    )
