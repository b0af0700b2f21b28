"""One life of the trainer process: signals, reporting and devices around a Run, and a name for however it ends."""

import importlib
import logging
import sys
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from trainer.compile_cache import keep_compiled
from trainer.devices import prepare_devices
from trainer.distill.remote import with_local_models
from trainer.distill.teacher import find_teacher
from trainer.distributed import join, leave_together
from trainer.endings import ending_of, folder_problem
from trainer.errors import UserError
from trainer.goodput import Account
from trainer.lock import FolderLock
from trainer.orders import Ordered, Orders
from trainer.reporting import Reporter, Sink, now
from trainer.reporting.console import Console
from trainer.reporting.control_plane import ControlPlane
from trainer.reporting.journal import Journal
from trainer.reporting.logs import routed_logs
from trainer.reporting.prometheus import PrometheusMetrics
from trainer.reporting.server import StatusServer
from trainer.reporting.spool import Spool
from trainer.reporting.status import Status
from trainer.signals import Signals
from trainer.watchdog import Watchdog
from vishwamai.contract.environment import COMPILED, TrainerEnvironment
from vishwamai.contract.problems import Notice
from vishwamai.contract.reports import UNDELIVERED, FinishedEvent
from vishwamai.contract.resolution.cache import writes_cache
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import CAUSES, Cause

_LOG = logging.getLogger(__name__)


class Attempt:
    """Trains a resolved job where the environment says."""

    def __init__(
        self, job: ResolvedJob, where: TrainerEnvironment, *, by_hand: bool = False, sinks: Sequence[Sink] = ()
    ) -> None:
        """`by_hand`: somebody sits at the terminal; warnings are printed and a taken port is an error.

        `sinks` are told everything, beside those that the environment asks for.
        """
        self._job, self._where, self._by_hand, self._sinks = job, where, by_hand, sinks
        self._orders = Orders()
        self._account = Account()
        self._run: Any = None
        """The trainer.run.Run, once jax may be imported."""

    def live(self, environ: MutableMapping[str, str]) -> int:
        """Trains to the end, whatever it is, and returns the exit code that tells it."""
        with Signals(self._orders), ExitStack() as stack:
            reporter = Reporter([Console(sys.stderr), *self._sinks], self._job.effective.training.max_steps)
            stack.enter_context(routed_logs(reporter))
            stack.callback(reporter.close)
            try:
                self._connect(reporter, stack)
                prepare_devices(self._job, environ, processes=self._where.processes)
                keep_compiled(self._where.compile_cache or self._where.output / COMPILED, environ)
                cause, message = Cause.COMPLETED, self._watched(reporter)
                together = True
            except Exception as error:
                cause, message = ending_of(error, self._job)
                if cause is Cause.INTERNAL:
                    _LOG.exception("the trainer failed")
                together = isinstance(error, Ordered) and error.agreed
            reporter.tell(FinishedEvent(time=now(), cause=cause, step=self._step, message=message))
            if together:
                leave_together(self._where)
        return CAUSES[cause].exit_code

    def _connect(self, reporter: Reporter, stack: ExitStack) -> None:
        """Joins control plane, files and metrics to the reporter, in the order in which they can tell of trouble."""
        where = self._where
        if where.process:  # process 0 speaks for all; what the others print is theirs
            self._job = self._with_models()
            return
        if where.reports_url:
            spool = Spool(where.output / UNDELIVERED)
            plane = ControlPlane(
                where.reports_url, self._orders, spool, attempt=where.attempt, token_file=where.reports_token_file
            )
            reporter.add(plane)
        for blocker in self._job.blockers:
            raise UserError(_told(blocker))
        self._job = self._with_models()
        try:
            where.output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FolderLock(where.output))
            (where.output / "resolved.json").write_text(self._job.model_dump_json(indent=2) + "\n", encoding="utf-8")
            reporter.add(Journal(where.output, where.attempt))
        except OSError as error:
            raise folder_problem(where.output, error) from error
        if self._by_hand:
            for notice in self._job.warnings:
                _LOG.warning(_told(notice))
        if where.metrics_port is not None:
            self._serve(reporter, stack, where.metrics_port)

    def _with_models(self) -> ResolvedJob:
        """The job with its teacher, and with models at addresses copied to this machine."""
        cache = self._where.cache or self._where.output / "models"
        job = find_teacher(with_local_models(self._job, cache))
        if job.teacher is not None and Path(job.teacher.folder).resolve() == self._where.output.resolve():
            raise UserError(
                f"distillation.teacher_model {job.teacher.folder!r} is the output folder of this very run, whose "
                "weights move: choose another folder for one of the two"
            )
        return job

    def _serve(self, reporter: Reporter, stack: ExitStack, port: int) -> None:
        """Serves /metrics and /status; to this machine alone when started by hand or rehearsing on CPU."""
        max_steps = self._job.effective.training.max_steps
        status = Status(job_id=self._where.job_id, attempt=self._where.attempt, max_steps=max_steps)
        metrics = PrometheusMetrics(job_id=self._where.job_id, attempt=self._where.attempt, max_steps=max_steps)
        host = "127.0.0.1" if self._by_hand or self._job.hardware.platform == "cpu" else "0.0.0.0"
        try:
            server = StatusServer(host, port, metrics.registry, status)
        except OSError as error:
            message = f"metrics port {port} cannot be used ({error.strerror}): choose another, or 0 for any free one"
            if self._by_hand:
                raise UserError(message) from error
            _LOG.warning("%s; training goes on without /metrics", message)
            return
        stack.callback(server.close)
        reporter.add(status)
        reporter.add(metrics)
        _LOG.info("metrics at http://127.0.0.1:%d/metrics, progress at /status", server.port)

    def _watched(self, reporter: Reporter) -> str:
        """Trains under the eyes of the watchdog."""

        def stalled(why: str) -> None:
            reporter.tell(FinishedEvent(time=now(), cause=Cause.STALLED, step=self._step, message=why))
            reporter.close()

        with Watchdog(self._account, self._job.effective.run.stall_seconds, stalled):
            return self._train(reporter)

    def _train(self, reporter: Reporter) -> str:
        reporter.phase("starting", 0)
        try:
            # Brings jax, whose devices are chosen by now. Seconds on a quiet machine, a minute on a busy one.
            life = self._orders.wait_for(self._load)
        except Ordered as order:
            raise order.after("before it had begun") from None
        self._run = life(self._job, self._where.output, reporter, self._orders, self._account)
        return str(self._run.train())

    @property
    def _step(self) -> int:
        return 0 if self._run is None else int(self._run.step)

    def _load(self) -> Callable[..., Any]:
        """What makes the life that the job asks for."""
        join(self._where)
        if writes_cache(self._job.effective):
            return importlib.import_module("trainer.distill.caching").Caching
        return importlib.import_module("trainer.run").Run


def _told(notice: Notice) -> str:
    return f"{notice.pointer}: {notice.message}" + (f" ({notice.fix})" if notice.fix else "")
