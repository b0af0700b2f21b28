"""One life of the trainer process: signals, reporting and devices around a Run, and a name for however it ends."""

import importlib
import logging
import sys
from collections.abc import MutableMapping, Sequence
from contextlib import ExitStack
from types import ModuleType

from trainer.devices import prepare_devices
from trainer.distill.teacher import find_teacher
from trainer.distributed import join
from trainer.endings import ending_of, folder_problem
from trainer.errors import UserError
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
from vishwamai.contract.environment import TrainerEnvironment
from vishwamai.contract.problems import Notice
from vishwamai.contract.reports import UNDELIVERED, FinishedEvent
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
        self._step = 0

    def live(self, environ: MutableMapping[str, str]) -> int:
        """Trains to the end, whatever it is, and returns the exit code that tells it."""
        with Signals(self._orders), ExitStack() as stack:
            reporter = Reporter([Console(sys.stderr), *self._sinks], self._job.effective.training.max_steps)
            stack.enter_context(routed_logs(reporter))
            stack.callback(reporter.close)
            try:
                self._connect(reporter, stack)
                prepare_devices(self._job, environ, processes=self._where.processes)
                cause, message = Cause.COMPLETED, self._train(reporter)
            except Exception as error:
                cause, message = ending_of(error, self._job)
                if cause is Cause.INTERNAL:
                    _LOG.exception("the trainer failed")
            reporter.tell(FinishedEvent(time=now(), cause=cause, step=self._step, message=message))
        return CAUSES[cause].exit_code

    def _connect(self, reporter: Reporter, stack: ExitStack) -> None:
        """Joins control plane, files and metrics to the reporter, in the order in which they can tell of trouble."""
        where = self._where
        if where.process:  # process 0 speaks for all; what the others print is theirs
            self._job = find_teacher(self._job)
            return
        if where.reports_url:
            spool = Spool(where.output / UNDELIVERED)
            plane = ControlPlane(
                where.reports_url, self._orders, spool, attempt=where.attempt, token_file=where.reports_token_file
            )
            reporter.add(plane)
        for blocker in self._job.blockers:
            raise UserError(_told(blocker))
        self._job = find_teacher(self._job)
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

    def _train(self, reporter: Reporter) -> str:
        reporter.phase("starting", 0)
        try:
            # Brings jax, whose devices are chosen by now. Seconds on a quiet machine, a minute on a busy one.
            program = self._orders.wait_for(self._load)
        except Ordered as order:
            raise order.after("before it had begun") from None
        run = program.Run(self._job, self._where.output, reporter, self._orders)
        try:
            return run.train()
        finally:
            self._step = run.step

    def _load(self) -> ModuleType:
        join(self._where)
        return importlib.import_module("trainer.run")


def _told(notice: Notice) -> str:
    return f"{notice.pointer}: {notice.message}" + (f" ({notice.fix})" if notice.fix else "")
