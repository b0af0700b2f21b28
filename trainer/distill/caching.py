"""One life of a job that writes a teacher's cache: job -> mesh -> data -> teacher -> windows -> files.

What is kept of a window depends on the window alone, so it does not matter in which life it was written: a start looks
up which windows are there and goes on with the others. So the same job, made longer, also adds to a cache.
"""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from trainer.batch import Batch
from trainer.data.loader import TrainingData, open_data
from trainer.distill import cache_files
from trainer.distill.cache_files import SETTING, Manifest, record_type
from trainer.distill.identity import data_facts, files_fingerprint
from trainer.distill.lesson import teacher_job
from trainer.distill.load import fingerprint, load_teacher
from trainer.distill.teacher import place_of
from trainer.effective import effective_settings
from trainer.errors import StorageError, UserError
from trainer.goodput import Account
from trainer.gradients import OneDevice
from trainer.kernels import with_checked_kernel
from trainer.lock import FolderLock
from trainer.losses import Output, TopWords, top_words
from trainer.mesh import batch_spec, check_platform, make_mesh, replicated
from trainer.model import Params
from trainer.orders import Ordered, Orders
from trainer.prefetch import Prefetcher
from trainer.reporting import Reporter, now
from trainer.reporting.lines import duration
from trainer.step import put_batch
from vishwamai.contract.reports import EffectiveEvent
from vishwamai.contract.resolution.lowering import in_bytes
from vishwamai.contract.resolved import ResolvedJob

_LOG = logging.getLogger(__name__)
_FILE_BYTES = 64 << 20
"""About the size of a file, which is what a killed writer loses at most."""
_TOLD_EVERY = 10.0
"""Seconds between two words about how far it is, unless a file is done."""
_LEAST = -65504.0
"""The least float16."""


class Caching:
    """Writes the cache of a job to its end, going on from what is there."""

    def __init__(self, job: ResolvedJob, output: Path, reporter: Reporter, orders: Orders, account: Account) -> None:
        """The cache is where distillation.cache says, prepared text in `output`. A pass is a step of the account."""
        self._output = output
        self._job, self._reporter, self._orders, self._account = job, reporter, orders, account
        section = job.effective.distillation
        assert section is not None
        assert section.cache is not None
        assert section.cache_top_k is not None
        self._folder, self._top_k = Path(section.cache).expanduser(), section.cache_top_k
        self._held = ExitStack()
        """Keeps other writers out of the folder."""
        self._wanted = self._kept = 0
        self.step = 0
        """Steps of the training whose windows are kept, as a share of all."""

    def train(self) -> str:
        """Writes all that is missing and says how it went. Every other end is an exception, Ordered among them."""
        try:
            self._prepare()
            if not len(self._missing):
                return f"Nothing to do: all {self._wanted:,} windows are in {self._folder} already."
            self._write()
        except Ordered as order:
            raise order.after(f"with {self._kept:,} of {self._wanted:,} windows, which are kept") from None
        finally:
            self._held.close()
        size = in_bytes(sum(sum(one.bytes.values()) for one in self._manifest.files))
        return f"Cached {self._top_k} words of each token of {self._wanted:,} windows: {size} in {self._folder}."

    def _prepare(self) -> None:
        job = self._job
        assert job.teacher is not None
        self._reporter.phase("restoring", 0)
        check_platform(job)
        self._mesh = make_mesh(job)
        checked, kernels = self._orders.wait_for(lambda: with_checked_kernel(teacher_job(job)))
        teacher = job.teacher.model_copy(update={"attention": checked.execution.attention})
        self._job = job = job.model_copy(update={"teacher": teacher})
        self._data: TrainingData = self._orders.wait_for(lambda: open_data(job, self._output))
        facts = self._facts()
        self._open(facts)
        self._announce()
        self._teacher: Params = self._orders.wait_for(lambda: load_teacher(job, self._mesh))
        self._agree(facts | {"teacher": fingerprint(self._teacher)})
        settings = effective_settings(job, self._mesh, self._data.facts(), self._teacher, resumed_from=None)
        told = teacher.model_dump(mode="json") | {"attention_check": kernels}
        settings |= {"teacher": told, "teacher_cache": {"folder": str(self._folder), **self._manifest.facts}}
        self._reporter.tell(EffectiveEvent(time=now(), settings=settings))

    def _facts(self) -> dict[str, Any]:
        """All that a cache must agree in, but for the teacher's weights."""
        model, teacher = self._job.effective.model, self._job.teacher
        assert teacher is not None
        place = place_of(Path(teacher.folder), model.max_seq_len)
        return {
            "top_k": self._top_k,
            "vocab_size": model.vocab_size,
            "window_length": model.max_seq_len,
            **data_facts(self._job, self._data),
            "teacher_files": files_fingerprint(place.folder, place.run, teacher.step),
        }

    def _open(self, facts: dict[str, Any]) -> None:
        """Looks up what is there. Raises UserError when it is another cache, StorageError when the disk fails."""
        wanted = self._data.visited_windows(self._job.effective.training.max_steps)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if jax.process_index() == 0:
                self._held.enter_context(FolderLock(self._folder))
        except OSError as error:
            raise UserError(f"{SETTING} {str(self._folder)!r} cannot be written to: {error.strerror}") from error
        self._manifest = cache_files.read_manifest(self._folder) or Manifest(facts=facts)
        cache_files.check_facts(self._manifest, facts, self._folder, writing=True)
        cache_files.check_files(self._folder, self._manifest, contents=False)
        there = cache_files.window_numbers(self._folder, self._manifest)
        self._missing = np.setdiff1d(wanted, np.concatenate([np.zeros(0, np.int64), *there]))
        self._wanted, self._kept = len(wanted), len(wanted) - len(self._missing)

    def _announce(self) -> None:
        """Says how much will be written. Raises UserError when the disk has no room for it."""
        model = self._job.effective.model
        self._record = record_type(model.max_seq_len, self._top_k, model.vocab_size)
        needed = len(self._missing) * self._record.itemsize
        disk = shutil.disk_usage(self._folder)
        if disk.total and disk.free < needed:
            raise UserError(
                f"{SETTING}: {len(self._missing):,} windows take {in_bytes(needed)}, and {str(self._folder)!r} has "
                f"{in_bytes(disk.free)} free: lower distillation.cache_top_k from {self._top_k}, or name a folder on "
                "another disk"
            )
        here = f"; {self._kept:,} are there already" if self._kept else ""
        _LOG.info("%d windows to cache, %s on disk%s", len(self._missing), in_bytes(needed), here)

    def _agree(self, facts: dict[str, Any]) -> None:
        cache_files.check_facts(self._manifest, facts, self._folder, writing=True)
        self._manifest = self._manifest.model_copy(update={"facts": facts})

    def _write(self) -> None:
        rows = max(_FILE_BYTES // self._record.itemsize, 1)
        waiting: list[tuple[np.ndarray, np.ndarray]] = []
        try:
            for found in self._found():
                waiting.append(found)
                unsaved = sum(len(windows) for windows, _ in waiting)
                if unsaved >= rows or self._orders.take_save():
                    self._commit(waiting)
                elif time.perf_counter() - self._told_at > _TOLD_EVERY:
                    self._tell(unsaved)
                self._orders.check()
        except Ordered:
            if self._orders.end is not None and self._orders.end.save:
                self._commit(waiting)
            raise
        self._commit(waiting)

    def _found(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pass after pass: numbers of windows, and their records."""
        self._reporter.phase("compiling", self.step, "compiling the teacher's pass")
        size = self._job.batch.sequences_per_micro_batch
        passes = -(-len(self._missing) // size)
        # The last pass is filled up with copies of the last window.
        by_pass = np.pad(self._missing, (0, -len(self._missing) % size), "edge").reshape(passes, size)
        batches = Prefetcher(lambda one: put_batch(self._data.rows(by_pass[one - 1]), self._mesh), 1, passes)
        find = make_finder(self._job, self._mesh, self._top_k)
        with self._account.spent("compile"):
            program = self._orders.wait_for(lambda: find.lower(self._teacher, batches.peek()).compile())
        self._began = time.perf_counter()
        self._account.goes_on_as("other")
        self._tell()
        under_way = [program(self._teacher, batches.take()[0])]
        for one in range(passes):
            if one + 1 < passes:  # the device works on the next pass while this one is taken
                with self._account.spent("data_wait"):
                    batch = batches.take()[0]
                under_way.append(program(self._teacher, batch))
            real = min(size, len(self._missing) - one * size)
            with self._account.spent("step"):
                records = self._records(under_way.pop(0))[:real]
            yield by_pass[one, :real], records

    def _records(self, found: TopWords) -> np.ndarray:
        taken = jax.device_get(found)
        records = np.empty(len(taken.ids), self._record)
        for name, values in taken._asdict().items():
            records[name] = values
        return records

    def _commit(self, waiting: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Makes a file of what waits. Raises StorageError when the disk is full or broken."""
        if not waiting:
            return
        windows, records = (np.concatenate(arrays) for arrays in zip(*waiting, strict=True))
        waiting.clear()
        try:
            if jax.process_index() == 0:
                self._manifest = cache_files.add_file(self._folder, self._manifest, windows, records)
        except OSError as error:
            message = f"{SETTING}: {str(self._folder)!r} cannot be written to ({error.strerror})"
            raise StorageError(f"{message}: free some space, and start again to go on") from error
        self._kept += len(windows)
        self._tell()

    def _tell(self, unsaved: int = 0) -> None:
        """How far it is: what is kept, as a step of the training that the cache is for, and `unsaved` windows more."""
        self._told_at = time.perf_counter()
        self.step = self._job.effective.training.max_steps * self._kept // self._wanted
        before = self._wanted - len(self._missing)
        done, seconds = self._kept + unsaved - before, self._told_at - self._began
        left = f", {duration(seconds / done * (self._wanted - before - done))} left" if done else ""
        more = f" and {unsaved:,} computed" if unsaved else ""
        self._reporter.phase("caching", self.step, f"{self._kept:,} of {self._wanted:,} windows are cached{more}{left}")


def make_finder(job: ResolvedJob, mesh: Mesh, k: int) -> jax.stages.Wrapped:
    """The jitted (teacher's parameters, batch) -> its TopWords as they are stored, the same on every device."""
    teacher = job.teacher
    assert teacher is not None
    device = OneDevice(teacher_job(job), mesh, teacher.eight_bit)

    def find(params: Params, batch: Batch) -> TopWords:
        decoder = device.decoder(device.whole(params))
        inputs, targets, segments, _ = map(jnp.asarray, batch[:4])
        output = Output(decoder(inputs, segments, device.rows(batch), device.how), decoder.output_table(device.how))
        return top_words(
            output,
            targets,
            k,
            chunk_tokens=job.execution.loss_chunk_tokens,
            vocab_axis=None if output.table.shape[0] == teacher.model.vocab_size else "model",
            softcap=teacher.model.logit_softcap,
        )

    split = batch_spec(mesh)
    whole = jax.shard_map(find, mesh=mesh, in_specs=(device.specs, split), out_specs=split)

    def stored(params: Params, batch: Batch) -> TopWords:
        found: TopWords = whole(params, batch)
        return found._replace(log_probs=jnp.maximum(found.log_probs, _LEAST).astype(jnp.float16))

    return jax.jit(stored, out_shardings=replicated(mesh))
