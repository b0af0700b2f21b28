"""The service's own figures, for Prometheus. Each application has its own registry."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

from vishwamai.contract.states import JobState

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""A caller may make up any other; they are counted as one."""
_REPORT_OUTCOMES = {403: "rejected", 401: "rejected", 404: "rejected", 409: "fenced", 413: "rejected", 422: "rejected"}


class Metrics:
    """Counts requests and reports; jobs are counted by the database when asked."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "vishwamai_http_requests",
            "Requests answered, by route template and status.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "vishwamai_http_request_duration_seconds",
            "Time to the end of the answer, streams left out.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._reports = Counter(
            "vishwamai_reports",
            "Trainers' reports by what became of them: accepted, duplicate, fenced, rejected or failed.",
            ["outcome"],
            registry=self._registry,
        )
        self._jobs = Gauge("vishwamai_jobs", "Jobs by state.", ["state"], registry=self._registry)

    def request(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Counts one answered request; `seconds` is None for a stream."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(method, route).observe(seconds)

    def report(self, status: int, outcome: str | None) -> None:
        """Counts one report by the answer it got; `outcome` is the operation's own word when it took the report."""
        self._reports.labels(outcome or _REPORT_OUTCOMES.get(status, "failed")).inc()

    def render(self, jobs: Mapping[JobState, int]) -> bytes:
        """Everything as Prometheus text."""
        for state in JobState:
            self._jobs.labels(state).set(jobs.get(state, 0))
        return generate_latest(self._registry)
