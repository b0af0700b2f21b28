"""Carries events to the control plane, and its orders back. Training never waits for it.

A thread gathers events into numbered reports and posts them in order. What cannot be delivered now is spooled and sent
later, under its own number, so that the control plane can tell a repeat. Every few seconds a report goes out even when
there is nothing to say, because only the answer to a report can bring an order.
"""

import logging
import threading
import time
from dataclasses import dataclass
from enum import Enum, auto
from itertools import batched
from pathlib import Path

import httpx2
from pydantic import ValidationError

from trainer.orders import Orders
from trainer.reporting.reporter import Sink, now
from trainer.reporting.spool import Entry, Spool
from vishwamai.contract.reports import AnyEvent, Report, ReportReceipt
from vishwamai.contract.states import Cause

_LOG = logging.getLogger(__name__)
_EVENTS_PER_REPORT = 200
_TRY_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how long, in seconds."""

    batch: float = 0.5
    """Between reports while there is something to say."""
    heartbeat: float = 5.0
    """Between reports while there is not."""
    first_retry: float = 0.5
    """Doubles with every failure..."""
    longest_retry: float = 15.0
    """...up to this."""
    request: float = 10.0
    """For one answer."""
    close: float = 10.0
    """For delivering the last reports."""


class _Outcome(Enum):
    DONE = auto()
    AWAY = auto()
    FENCED = auto()


class ControlPlane(Sink):
    """Sink that posts reports to one address."""

    def __init__(
        self,
        address: str,
        orders: Orders,
        spool: Spool,
        *,
        attempt: int,
        process: int = 0,
        token_file: Path | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._address = httpx2.URL(address)
        self._orders = orders
        self._spool = spool
        self._attempt = attempt
        self._process = process
        self._token_file = token_file
        self._timing = timing or Timing()
        self._events: list[AnyEvent] = []
        self._wake = threading.Condition()
        self._deadline: float | None = None
        self._seq = 0
        self._failures = 0
        self._fenced = False
        self._saved_for = 0
        """Number of the newest request for a checkpoint that was passed on."""
        self._complaints: set[str] = set()
        self._last_sent = float("-inf")
        self._client = httpx2.Client(timeout=self._timing.request)
        self._thread = threading.Thread(target=self._run, name="control-plane", daemon=True)
        self._thread.start()

    def receive(self, event: AnyEvent) -> None:
        """Puts the event into the next report."""
        with self._wake:
            self._events.append(event)

    def close(self) -> None:
        """Delivers the rest within Timing.close seconds; what is left then waits on disk for the next attempt."""
        with self._wake:
            self._deadline = time.monotonic() + self._timing.close
            self._wake.notify_all()
        self._thread.join(self._timing.close + self._timing.request)
        self._client.close()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._deadline is not None, timeout=self._pause())
                events, self._events = self._events, []
                deadline = self._deadline
            for some in batched(events, _EVENTS_PER_REPORT):
                self._spool.add(self._report(some))
            self._deliver()
            if deadline is not None:
                self._finish(deadline)
                return

    def _pause(self) -> float:
        if not self._failures:
            return self._timing.batch
        return float(min(self._timing.first_retry * 2 ** min(self._failures - 1, 20), self._timing.longest_retry))

    def _finish(self, deadline: float) -> None:
        while self._spool.first is not None and not self._fenced and time.monotonic() < deadline:
            time.sleep(min(self._timing.first_retry, max(0.0, deadline - time.monotonic())))
            self._deliver()
        if not self._fenced:
            self._spool.write()

    def _report(self, events: tuple[AnyEvent, ...]) -> Entry:
        self._seq += 1
        report = Report(attempt=self._attempt, seq=self._seq, process=self._process, sent_at=now(), events=list(events))
        return Entry(self._attempt, self._seq, report.model_dump_json().encode())

    def _deliver(self) -> None:
        if self._fenced:
            return
        quiet = time.monotonic() - self._last_sent
        if self._spool.first is None and self._deadline is None and quiet >= self._timing.heartbeat:
            # Not spooled: a lost heartbeat is no loss, and its number is never used again.
            self._note(self._post(self._report(())))
        while (entry := self._spool.first) is not None:
            outcome = self._post(entry)
            self._note(outcome)
            if outcome is not _Outcome.DONE:
                return
            self._spool.remove_first()

    def _note(self, outcome: _Outcome) -> None:
        if outcome is _Outcome.AWAY:
            self._failures += 1
            self._spool.write()
        else:
            if self._failures:
                _LOG.info("the control plane answers again")
                self._complaints.discard("away")
            self._failures = 0
            self._last_sent = time.monotonic()

    def _post(self, entry: Entry) -> _Outcome:
        headers = {"Content-Type": "application/json"} | self._authorization()
        try:
            answer = self._client.post(self._address, content=entry.body, headers=headers)
        except httpx2.TransportError as error:
            return self._away(f"{type(error).__name__}: {error}")
        if answer.status_code >= 500 or answer.status_code in _TRY_AGAIN:
            return self._away(f"status {answer.status_code}")
        if answer.status_code == 409:
            return self._superseded(entry)
        if not answer.is_success:
            self._complain(
                f"status {answer.status_code}",
                f"the control plane refuses reports with status {answer.status_code}: {answer.text[:300]}; "
                "training goes on, its progress will not be seen there",
            )
            return _Outcome.DONE
        try:
            self._obey(ReportReceipt.model_validate_json(answer.content))
        except ValidationError:
            return self._away(f"{self._address} answers with something that is no receipt")
        return _Outcome.DONE

    def _obey(self, receipt: ReportReceipt) -> None:
        if receipt.directive == "save":
            if receipt.request is None or receipt.request > self._saved_for:
                self._saved_for = receipt.request or self._saved_for
                self._orders.ask_save()
        elif receipt.directive == "stop":
            self._orders.ask_end(Cause.CANCELLED, "Cancelled on request", save=receipt.save)

    def _superseded(self, entry: Entry) -> _Outcome:
        if entry.attempt < self._attempt:
            return _Outcome.DONE
        self._fenced = True
        message = f"Another attempt has taken over, so attempt {self._attempt} ends"
        self._orders.ask_end(Cause.CANCELLED, message, save=False)
        return _Outcome.FENCED

    def _away(self, why: str) -> _Outcome:
        self._complain("away", f"the control plane does not answer ({why}); training goes on, reports wait")
        return _Outcome.AWAY

    def _complain(self, about: str, message: str) -> None:
        if about not in self._complaints:
            self._complaints.add(about)
            _LOG.warning(message)

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except OSError as error:
            self._complain("token", f"the reports token cannot be read: {error}")
            return {}
