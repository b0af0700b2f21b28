"""`Client`: the control plane's API, one method a call, with the contract's values for answers."""

import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from vishwamai.client.connection import Connection, unreadable
from vishwamai.client.errors import Unreachable
from vishwamai.client.patience import Patience
from vishwamai.contract.api import (
    AcceleratorList,
    AttemptList,
    CheckpointList,
    EventList,
    Health,
    Job,
    JobEvent,
    JobList,
    LogLine,
    LogPage,
    MetricsPage,
    RetryRequest,
    Validation,
    Version,
)
from vishwamai.contract.export import ExportAnswer, ExportType
from vishwamai.contract.generation import GenerateAnswer, GenerateRequest
from vishwamai.contract.plan import Plan
from vishwamai.contract.states import JobState

DEFAULT_SERVER = "http://127.0.0.1:8000"
GENERATION_WAIT = 3600.0
"""Seconds that texts may take; the control plane has its own, shorter limit."""
EXPORT_WAIT = 86_400.0
"""Seconds that an export may take; the control plane has its own limit."""
PLAN_WAIT = 7200.0
"""Seconds that a plan may take; the control plane has its own, shorter limit."""
FOLLOW_WAIT = 10.0
"""Seconds the server may hold an answer back until there is something to say."""
Answer = TypeVar("Answer", bound=BaseModel)


class Client:
    """A control plane, from Python.

        with Client("http://127.0.0.1:8000") as client:
            job = client.submit({"training": {"max_steps": 100}})
            for event in client.events(job.id):
                print(event.message)

    `token` is what the control plane's operator gave you; one on your own machine asks for none.

    Every method raises Unreachable when nothing answers, and an ApiError (NotFound, InvalidRequest, Conflict,
    ServerFault) with the problem document when the answer is an error. Calls are repeated with back-off while the
    way is down, which is safe for each of them.
    """

    def __init__(
        self, server: str = DEFAULT_SERVER, *, token: str | None = None, connection: Connection | None = None
    ) -> None:
        self._connection = connection or Connection(server, token=token)
        self.last_body = ""
        """The newest answer exactly as it came, for those who pass it on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def server(self) -> str:
        """The address spoken to."""
        return self._connection.server

    def close(self) -> None:
        """Lets go of the sockets."""
        self._connection.close()

    def submit(self, config: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Starts a job. The same key with the same config is the same job, however often it is sent."""
        key = idempotency_key or str(uuid.uuid4())
        return self._read(Job, "POST", "/jobs", document=dict(config), headers={"Idempotency-Key": key})

    def validate(self, config: Mapping[str, Any]) -> Validation:
        """What `submit` would start: the resolved job with its decisions and warnings. Nothing is stored."""
        return self._read(Validation, "POST", "/jobs", document=dict(config), query={"validate_only": True})

    def plan(self, config: Mapping[str, Any], *, slice: str | None = None) -> Plan:
        """What a config needs and costs on its own slice, or on another such as "v5e:2x4", by the TPU compiler."""
        return self._read(Plan, "POST", "/plans", document=dict(config), query={"slice": slice}, wait=PLAN_WAIT)

    def render(self, config: Mapping[str, Any]) -> str:
        """The manifests that a config becomes on the service's cluster, as YAML. Nothing is created."""
        return self._send("POST", "/manifests", document=dict(config)).text

    def manifest(self, job_id: str) -> str:
        """The manifests that a job becomes on the service's cluster, as YAML."""
        return self._send("GET", _path(job_id, "/manifest")).text

    def list(
        self,
        *,
        state: Sequence[JobState | str] = (),
        label: Sequence[str] = (),
        name: str | None = None,
        accelerator: str | None = None,
        text: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobList:
        """A page of jobs, newest first; `label` entries are key=value. `next_cursor` asks for the next page."""
        query = {
            "state": [str(one) for one in state],
            "label": [*label],
            "name": name,
            "accelerator": accelerator,
            "text": text,
            "limit": limit,
            "cursor": cursor,
        }
        return self._read(JobList, "GET", "/jobs", query=query)

    def get(self, job_id: str) -> Job:
        """One job, whole."""
        return self._read(Job, "GET", _path(job_id))

    def cancel(self, job_id: str, *, save: bool = True) -> Job:
        """Stops a job, after a checkpoint unless `save` is false. Returns once that is asked for, not done."""
        return self._read(Job, "POST", _path(job_id, ":cancel"), query={"save": save})

    def save(self, job_id: str) -> Job:
        """Asks a running job for a checkpoint; it trains on. May be repeated."""
        return self._read(Job, "POST", _path(job_id, ":save"))

    def retry(self, job_id: str, *, from_step: int | None = None) -> Job:
        """Starts an ended job again, from the committed checkpoint of `from_step` or from the newest."""
        body = RetryRequest(from_step=from_step).model_dump(exclude_none=True)
        return self._read(Job, "POST", _path(job_id, ":retry"), document=body)

    def generate(self, job_id: str, request: GenerateRequest) -> GenerateAnswer:
        """Texts that the job's model makes of prompts, from its newest committed checkpoint or `request.step`."""
        body = request.model_dump(exclude_unset=True)
        path = _path(job_id, ":generate")
        return self._read(GenerateAnswer, "POST", path, document=body, wait=GENERATION_WAIT)

    def export(self, job_id: str, step: int, *, dtype: ExportType = "float32", to: Path | None = None) -> ExportAnswer:
        """A committed checkpoint as a Hugging Face folder on the control plane's machine, and in the folder `to` here.

        Raises OSError when `to` cannot be written to.
        """
        path = _path(job_id, f"/checkpoints/{step}")
        answer = self._read(ExportAnswer, "POST", f"{path}:export", document={"dtype": dtype}, wait=EXPORT_WAIT)
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
            for file in answer.files:
                self._connection.download(f"{path}/export/{file.name}", to / file.name, query={"dtype": dtype})
        return answer

    def attempts(self, job_id: str) -> AttemptList:
        """The job's attempts, oldest first."""
        return self._read(AttemptList, "GET", _path(job_id, "/attempts"))

    def checkpoints(self, job_id: str) -> CheckpointList:
        """The committed checkpoints that retention has kept, newest first."""
        return self._read(CheckpointList, "GET", _path(job_id, "/checkpoints"))

    def metrics(self, job_id: str, *, names: Sequence[str] = (), max_points: int | None = None) -> MetricsPage:
        """Series over steps, thinned to `max_points` each with minima and maxima kept."""
        return self._read(MetricsPage, "GET", _path(job_id, "/metrics"), query=_series(names, max_points))

    def metrics_csv(self, job_id: str, *, names: Sequence[str] = (), max_points: int | None = None) -> str:
        """The same series as CSV text."""
        query = _series(names, max_points) | {"format": "csv"}
        response = self._send("GET", _path(job_id, "/metrics"), query=query, headers={"Accept": "text/csv"})
        if not response.headers.get("Content-Type", "").startswith("text/csv"):
            raise unreadable(self.server, response, "it is not CSV")
        return response.text

    def event_page(self, job_id: str, *, after: int = 0, wait: float = 0.0) -> EventList:
        """Events after the id `after`; with none yet, the answer waits up to `wait` seconds for one."""
        query = {"after": after, "wait": wait or None}
        return self._read(EventList, "GET", _path(job_id, "/events"), query=query, wait=wait)

    def past_events(self, job_id: str) -> Iterator[JobEvent]:
        """What has happened until now, oldest first."""
        page = self.event_page(job_id)
        while page.events:
            yield from page.events
            page = self.event_page(job_id, after=page.last_id)

    def events(self, job_id: str, *, after: int = 0, patience: Patience | None = None) -> Generator[JobEvent]:
        """Events as they happen, until the job has ended and all were given.

        A lost connection is taken up again where it broke; Unreachable is raised only when `patience` (ten minutes
        by default) is spent.
        """
        patience = patience or Patience(600.0)
        while True:
            try:
                ended = self.get(job_id).state.is_terminal
                with self._connection.stream(_path(job_id, "/events"), last_event_id=after) as source:
                    for sent in source:
                        patience.success()
                        if sent.data:
                            event = self._parse(JobEvent, sent.data, source.response)
                            after = max(after, event.id)
                            yield event
                # The server ends the stream of an ended job, and every stream when it stops itself.
                if ended and not self.event_page(job_id, after=after).events:
                    return
            except Unreachable as error:
                patience.failure(error)

    def log_page(
        self,
        job_id: str,
        *,
        after: int | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        process: int | None = None,
        search: str | None = None,
        limit: int | None = None,
        wait: float = 0.0,
    ) -> LogPage:
        """Log lines after the id `after`, or the last `tail` ones."""
        query = {
            "after": after,
            "tail": tail,
            "attempt": attempt,
            "process": process,
            "search": search,
            "limit": limit,
            "wait": wait or None,
        }
        return self._read(LogPage, "GET", _path(job_id, "/logs"), query=query, wait=wait)

    def logs(
        self,
        job_id: str,
        *,
        tail: int | None = None,
        attempt: int | None = None,
        process: int | None = None,
        search: str | None = None,
        follow: bool = False,
        patience: Patience | None = None,
    ) -> Iterator[LogLine]:
        """Log lines, all or the last `tail` ones; with `follow` those to come as well, until the job has ended."""
        patience = patience or Patience(600.0 if follow else 0.0)
        after: int | None = None if tail is not None else 0
        while True:
            try:
                ended = not follow or self.get(job_id).state.is_terminal
                page = self.log_page(
                    job_id,
                    after=after,
                    tail=tail if after is None else None,
                    limit=tail if after is None else None,
                    attempt=attempt,
                    process=process,
                    search=search,
                    wait=0.0 if ended else FOLLOW_WAIT,
                )
            except Unreachable as error:
                patience.failure(error)
                continue
            patience.success()
            yield from page.lines
            if ended and (after is None or not page.lines):
                return
            after = page.last_id

    def accelerators(self) -> AcceleratorList:
        """The accelerator catalogue."""
        return self._read(AcceleratorList, "GET", "/accelerators")

    def config_schema(self) -> dict[str, Any]:
        """The JSON Schema of a config."""
        response = self._send("GET", "/config-schema")
        try:
            schema: dict[str, Any] = response.json()
        except ValueError as error:
            raise unreadable(self.server, response, "it is not JSON") from error
        return schema

    def ready(self) -> Health:
        """Whether jobs can be taken and trained now; raises an ApiError or Unreachable while they cannot."""
        return self._read(Health, "GET", "/readyz")

    def version(self) -> Version:
        """What is running there."""
        return self._read(Version, "GET", "/version")

    def _send(self, method: str, path: str, **how: Any) -> httpx2.Response:
        response = self._connection.send(method, path, **how)
        self.last_body = response.text
        return response

    def _read(self, answer: type[Answer], method: str, path: str, **how: Any) -> Answer:
        response = self._send(method, path, **how)
        return self._parse(answer, response.text, response)

    def _parse(self, answer: type[Answer], text: str, response: httpx2.Response) -> Answer:
        try:
            return answer.model_validate_json(text)
        except ValidationError as error:
            raise unreadable(self.server, response, error.errors()[0]["msg"]) from error


def _path(job_id: str, rest: str = "") -> str:
    """Address of a job's resource; an id with a slash or a question mark stays one segment."""
    return f"/jobs/{quote(job_id, safe='')}{rest}"


def _series(names: Sequence[str], max_points: int | None) -> dict[str, Any]:
    return {"names": ",".join(names) or None, "max_points": max_points}
