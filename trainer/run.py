"""One life of a training run: job -> mesh -> data -> state -> steps -> finish.

Between two steps the run may log, evaluate, save, or end on somebody's order. What it does at step N depends on the job
and on N alone, so a run that was interrupted goes on as if it had not been.
"""

import logging
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from trainer.agreement import Agreement
from trainer.bad_loss import LeftOut, Spikes
from trainer.batch import Batch
from trainer.checkpoints import Checkpoints, Restored
from trainer.data.loader import open_data
from trainer.data.tokenizers import spelled_bytes
from trainer.diagnosis import first_bad_layer
from trainer.distill.beside import open_beside
from trainer.distill.lesson import teacher_job
from trainer.distill.load import fingerprint, load_teacher
from trainer.distill.own_tokens import classes_on, measured
from trainer.early_stopping import EarlyStopping
from trainer.effective import effective_settings
from trainer.errors import LossSpike, NonFiniteError, StorageError
from trainer.evaluate import Evaluator
from trainer.generate.closing import sample
from trainer.goodput import Account
from trainer.grace import Grace
from trainer.huggingface.start import initial_params
from trainer.kernels import with_checked_kernel
from trainer.mesh import check_platform, make_mesh
from trainer.meter import Meter
from trainer.orders import Ordered, Orders
from trainer.precision import with_available_products
from trainer.prefetch import Prefetcher
from trainer.reporting import Reporter, now
from trainer.restored import checkpoint_folder
from trainer.resume import checker, kept
from trainer.spending import Spending
from trainer.step import (
    TrainState,
    abstract_state,
    init_state,
    make_eval_step,
    make_train_step,
    put_batch,
    put_rows,
    state_from_params,
)
from vishwamai.contract.reports import CheckpointEvent, EffectiveEvent, RewindEvent
from vishwamai.contract.resolved import ResolvedJob

_LOG = logging.getLogger(__name__)


class Run:
    """Trains a job to its end, from its newest checkpoint if there is one."""

    def __init__(self, job: ResolvedJob, output: Path, reporter: Reporter, orders: Orders, account: Account) -> None:
        """`output` gets the checkpoints unless checkpoint.directory says otherwise."""
        self._job, self._reporter, self._orders, self._account = job, reporter, orders, account
        self._config = job.effective
        self._output = output
        self._max_steps = job.effective.training.max_steps
        self._folder = checkpoint_folder(job, output)
        self._checkpoints = Checkpoints(self._folder, job.effective.checkpoint, self._tell_checkpoint)
        self.step = 0
        """Optimizer steps done, over all lives."""
        self._losses: dict[str, float] = {}
        self._spending = Spending(account, reporter)
        self._evaluation: dict[str, Any] | None = None

    def train(self) -> str:
        """Trains to the end and says how it went. Every other end is an exception, Ordered among them."""
        try:
            self._prepare()
            self._restore()
            self._evaluate_if_due()
            if self._is_done():
                return f"Nothing to do: training ended at step {self.step} already."
            self._compile()
            self._account.goes_on_as("other")
            while not self._is_done():
                try:
                    self._take_turn()
                except NonFiniteError as error:
                    self._go_on_after(error)
            return self._finish()
        except Ordered as order:
            raise order.after(self._save_before_ending(order)) from None
        except NonFiniteError as error:
            raise self._diagnosed(error) from None
        finally:
            self._account.goes_on_as("other")
            with suppress(StorageError), self._account.spent("save_stall"):  # told when it happened
                self._checkpoints.close()
            self._spending.tell(self.step)

    def _take_turn(self) -> None:
        """One step, and what is due after it."""
        self._agreement.check()
        with self._account.spent("step"):
            self._take_step()
            if self._config.training.find_bad_layer:
                self._meter.settle()  # a bad step is found before the next one moves the weights
            self._log_if_due()
        self._evaluate_if_due()
        self._save_if_due()
        self._spending.tell_if_due(self.step)

    def _prepare(self) -> None:
        check_platform(self._job)
        self._mesh = make_mesh(self._job)
        self._agreement = Agreement(self._orders, self._mesh)
        grace = self._config.run.grace_seconds
        self._grace = Grace(grace, self._account, self._reporter.tell, alone=self._agreement.alone)
        self._job = with_available_products(self._job, self._mesh.devices.flat[0])
        self._job, self._kernels = self._orders.wait_for(lambda: with_checked_kernel(self._job))
        self._data = self._orders.wait_for(lambda: open_data(self._job, self._output))
        sets = self._data.eval_sets() if self._config.logging.eval_every else {}
        spelled = spelled_bytes(self._data.tokenizer)
        self._evaluator = Evaluator(make_eval_step(self._job, self._mesh), sets, spelled, self._put)
        if self._config.logging.eval_every and not self._evaluator.has_text:
            _LOG.warning("no text is held out, so nothing is evaluated: name some in data.eval, or raise eval_fraction")

    def _restore(self) -> None:
        """Takes up the newest checkpoint: the state, and what was kept beside it."""
        self._reporter.phase("restoring", 0)
        self._take_teacher()
        abstract, check = abstract_state(self._job, self._mesh), checker(self._job, self._fingerprints())
        with self._account.spent("restore"):
            restored = self._orders.wait_for(lambda: self._checkpoints.restore(abstract, check))
        extra = self._take_up(restored)
        self._left_out = LeftOut(extra.get("left_out"))
        self._tell_effective(resumed_from=self.step or None)

    def _take_up(self, restored: Restored | None) -> dict[str, Any]:
        """The state of a checkpoint and what was kept beside it, which is returned; or the first state and nothing."""
        training = self._config.training
        extra: dict[str, Any] = {}
        if restored is None:
            with self._account.spent("restore"):
                self._state: TrainState = self._orders.wait_for(self._first_state)
            self.step = 0
        else:
            self._state, self.step, extra = restored.state, restored.step, restored.extra
        self._evaluated: int = extra.get("evaluated", 0)
        self._evaluation = extra.get("metrics", {}).get("evaluation")
        self._early_stopping = EarlyStopping(training.early_stopping, extra.get("early_stopping"))
        spikes = Spikes(training.spike_threshold, extra.get("losses", ()))
        self._meter = Meter(extra.get("tokens", 0), max_bad_steps=training.max_bad_steps, spikes=spikes)
        self._reporter.resume(self.step, self._evaluated)
        return extra

    def _take_teacher(self) -> None:
        """The job's teacher, if it has one: its weights on the mesh, and its kernel checked like the student's."""
        self._teacher: tuple[Any, ...] = ()
        self._taught_by: dict[str, Any] = {}
        self._job, read = self._orders.wait_for(lambda: measured(self._job, self._data))
        self._beside = self._orders.wait_for(lambda: open_beside(self._job, self._data))
        if (cache := self._job.teacher_cache) is not None:
            self._taught_by = cache.model_dump(mode="json") | {"fingerprint": cache.teacher_fingerprint}
        if self._job.teacher is None:
            return
        checked, kernels = self._orders.wait_for(lambda: with_checked_kernel(teacher_job(self._job)))
        teacher = self._job.teacher.model_copy(update={"attention": checked.execution.attention})
        self._job = self._job.model_copy(update={"teacher": teacher})
        params = self._orders.wait_for(lambda: load_teacher(self._job, self._mesh))
        self._teacher = (params, *classes_on(self._job, self._data, self._mesh))
        facts = {"fingerprint": fingerprint(params), "attention_check": kernels} | ({"read": read} if read else {})
        self._taught_by = teacher.model_dump(mode="json") | facts

    def _tell_effective(self, *, resumed_from: int | None) -> None:
        """What really runs, from here on."""
        settings = effective_settings(
            self._job, self._mesh, self._data.facts(), self._state.params, resumed_from=resumed_from
        )
        settings["attention_check"] = self._kernels
        if self._taught_by:
            settings["teacher"] = self._taught_by
        self._reporter.tell(EffectiveEvent(time=now(), settings=settings))

    def _first_state(self) -> TrainState:
        """Drawn at random, or imported."""
        if self._config.checkpoint.init_from is None:
            return init_state(self._job, self._mesh)
        return state_from_params(self._job, self._mesh, initial_params(self._job))

    def _compile(self) -> None:
        """Compiles the step ahead of its first use, so that an order to end need not wait for it."""
        self._reporter.phase("compiling", self.step, "compiling the training step")
        began = time.perf_counter()
        with self._meter.paused():
            batch = self._open_batches()
            with self._account.spent("compile"):
                step = make_train_step(self._job, self._mesh)
                inputs, orders = (self._state, batch, *self._teacher), self._agreement.silence
                self._train_step = self._orders.wait_for(lambda: step.lower(*inputs, orders=orders).compile())
        self._reporter.phase("training", self.step, f"compiled in {time.perf_counter() - began:.1f} s")

    def _open_batches(self) -> Batch:
        """From here on batches are made ahead; waits for the next step's and returns it."""
        self._batches = Prefetcher(self._batch_of, self.step + 1, self._max_steps)
        with self._account.spent("data_wait"):
            return self._orders.wait_for(self._batches.peek)

    def _go_on_after(self, error: NonFiniteError) -> None:
        """What the job wants done about a loss that went bad; raises the error where that is to end."""
        spike = isinstance(error, LossSpike)
        if not spike and self._job.execution.loss_shift == "label":
            self._go_on_exactly()
            return
        if self._config.training.on_bad_loss == "stop" or error.first_step is None or error.last_step is None:
            raise error
        batches = self._left_out.add(range(error.first_step, error.last_step + 1))
        if batches is None:
            raise error
        self._rewind(str(error).removesuffix("."), error.last_step, batches)

    def _rewind(self, why: str, bad_step: int, batches: list[int]) -> None:
        """Goes back to the newest checkpoint, or to the beginning, and on from there without these batches."""
        self._batches.close()
        with suppress(StorageError), self._account.spent("save_stall"):  # of the save, told when it happened
            self._checkpoints.wait()
        with self._account.spent("restore"):
            settings = self._config.checkpoint.model_copy(update={"restore": "newest"})
            reader = Checkpoints(self._folder, settings, lambda _: None, read_only=True)
            restored = reader.restore(abstract_state(self._job, self._mesh))
            reader.close()
        self._checkpoints.went_back(None if restored is None else restored.step)
        self._take_up(restored)
        start = f"the checkpoint of step {self.step}" if self.step else "the beginning"
        message = f"{why}. The run goes on from {start}, without batch {', '.join(map(str, batches))}."
        self._reporter.tell(
            RewindEvent(time=now(), step=self.step, from_step=bad_step, batches=batches, message=message)
        )
        self._open_batches()

    def _go_on_exactly(self) -> None:
        """After a loss that was no number under the cheaper shift: the same again with the one that is always right."""
        _LOG.warning("a token's loss was too large for execution.loss_shift label; training goes on with max")
        execution = self._job.execution.model_copy(update={"loss_shift": "max"})
        self._job = self._job.model_copy(update={"execution": execution})
        self._tell_effective(resumed_from=self.step)
        self._batches.close()
        self._compile()

    def _is_done(self) -> bool:
        return self.step >= self._max_steps or self._early_stopping.reached

    def _put(self, batch: Batch) -> Batch:
        return put_batch(batch, self._mesh)

    def _batch_of(self, step: int) -> Batch:
        return self._fetch(self._left_out.batch_of(step))

    def _fetch(self, step: int) -> Batch:
        def rows(ids: np.ndarray) -> Batch:
            batch = self._data.rows(ids)
            return batch if self._beside is None else batch._replace(lesson=self._beside(ids, batch))

        return put_rows(rows, self._data.window_ids(step), self._mesh)

    def _take_step(self) -> None:
        if not self._batches.ready:
            self._meter.catch_up()  # while the device is at work, nobody waits for the batch
        with self._account.spent("data_wait"):
            batch, waited = self._batches.take()
        orders = self._agreement.voice()
        self._state, metrics = self._train_step(self._state, batch, *self._teacher, orders=orders)
        self.step += 1
        self._meter.add(self.step, metrics, waited)
        self._agreement.sent(metrics.heard)

    def _log_if_due(self) -> None:
        if self.step == 1 or self.step == self._max_steps or self.step % self._config.logging.log_every == 0:
            event = self._meter.read(self.step)
            self._losses["loss"] = math.nan if event.loss is None else event.loss
            self._reporter.tell(event)

    def _evaluate_if_due(self) -> None:
        every = self._config.logging.eval_every
        due = every and self.step and (self.step == self._max_steps or self.step % every == 0)
        if not due or self._evaluated == self.step or not self._evaluator.has_text:
            return
        self._reporter.phase("evaluating", self.step)
        with self._meter.paused(), self._account.spent("eval"):
            events = self._agreement.wait_for(
                lambda: self._evaluator.evaluate(self._state.params, self.step, self._agreement.check_now)
            )
        self._evaluated = self.step
        losses = {event.name: event.loss for event in events}
        self._early_stopping.judge(losses)
        self._losses["evaluation loss"] = events[0].loss
        self._evaluation = {"step": self.step, "losses": losses}
        for event in events:
            self._reporter.tell(event)
        self._reporter.phase("training", self.step)

    def _save_if_due(self) -> None:
        if self._is_done():
            return  # saved by _finish, or the run fails
        every = self._config.logging.save_every
        if self._agreement.take_save() or (every and self.step % every == 0):
            try:
                self._save()
            except StorageError:  # its message was told as an event
                _LOG.warning("training goes on without a checkpoint of step %d", self.step)

    def _save(self) -> None:
        """Begins to save the present step, unless it is saved already."""
        self._reporter.phase("saving", self.step)
        with self._meter.paused(), self._account.spent("save_stall"):
            with suppress(StorageError):  # of an earlier step, told when it happened
                self._checkpoints.wait()
            self._checkpoints.save(self._state, self.step, self._extra())
        self._reporter.phase("training", self.step)

    def _extra(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state."""
        metrics = {"loss": self._losses.get("loss"), "evaluation": self._evaluation}
        return kept(self._job, self.step, self._fingerprints(), metrics) | {
            "tokens": self._meter.tokens,
            "evaluated": self._evaluated,
            "early_stopping": self._early_stopping.state(),
            "losses": self._meter.spikes.state(),
            "left_out": self._left_out.state(),
        }

    def _fingerprints(self) -> dict[str, str]:
        """What a course of training follows from, beside its config."""
        facts = self._data.facts()
        found: dict[str, str] = {name: facts[name] for name in ("tokenizer_fingerprint", "corpus_fingerprint")}
        return found | ({"teacher_fingerprint": self._taught_by["fingerprint"]} if self._taught_by else {})

    def _save_before_ending(self, order: Ordered) -> str:
        """Saves when the order to end allows it, and says what a new start will find."""
        if self.step == 0 and order.save:
            return "before the first step"
        if not self._agreement.may_save(order):
            return f"at step {self.step}, without saving"
        try:
            self._save()
        except NonFiniteError:
            if self._config.training.on_bad_loss == "stop":
                raise
            return f"at step {self.step}, and its loss has gone bad, so it is not saved"
        self._wait_for_save()
        return f"at step {self.step}, which is saved"

    def _wait_for_save(self) -> None:
        with self._account.spent("save_stall"):
            self._checkpoints.wait()

    def _tell_checkpoint(self, event: CheckpointEvent) -> None:
        self._reporter.tell(event)
        if event.action == "committed" and event.seconds is not None:
            self._grace.saved(event.seconds)

    def _diagnosed(self, error: NonFiniteError) -> NonFiniteError:
        """The same end, naming the first bad layer if the job asks for it."""
        if not self._config.training.find_bad_layer or error.first_step is None:
            return error
        batch = self._batch_of(error.first_step)  # bad steps changed nothing, so the weights are still those before it
        found = self._orders.wait_for(lambda: first_bad_layer(self._job, self._mesh, self._state.params, batch))
        return NonFiniteError(f"{error} {found}", error.first_step)

    def _finish(self) -> str:
        """Saves the last step for certain, and lets the model write something."""
        self._save()
        self._wait_for_save()
        self._reporter.phase("finishing", self.step)
        try:
            event = self._agreement.wait_for(
                lambda: sample(self._job, self._mesh, self._state.params, self._data, self.step)
            )
            self._reporter.tell(event)
        except Ordered:
            pass  # all that matters is done
        except Exception as error:  # the model is trained and saved, whatever becomes of its sample
            _LOG.warning("no sample could be drawn: %s", error)
        losses = ", ".join(f"{name} {value:.4f}" for name, value in self._losses.items())
        early = "" if self.step == self._max_steps else " and ended early, because the evaluation loss no longer falls"
        return f"Trained to step {self.step}{early}: {losses}."
