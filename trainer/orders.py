"""What others ask of a run: save now, or end. Signals and the control plane write here, the training loop reads."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from trainer.errors import TrainerError
from vishwamai.contract.states import Cause


@dataclass(frozen=True, slots=True)
class EndOrder:
    """Someone wants the run to end."""

    cause: Cause
    message: str
    save: bool = True
    """Checkpoint before ending."""


class Ordered(TrainerError):
    """The run ends because someone wants it to."""

    def __init__(self, order: EndOrder, *, agreed: bool = False) -> None:
        """`agreed`: all processes of the attempt end here."""
        super().__init__(order.message)
        self.cause, self.save, self.agreed = order.cause, order.save, agreed

    def after(self, what_was_done: str) -> "Ordered":
        """The same end, saying more."""
        return Ordered(EndOrder(self.cause, f"{self} {what_was_done}.", self.save), agreed=self.agreed)


class Orders:
    """Thread-safe letter box between those who ask and the training loop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._end: EndOrder | None = None
        self._save = False

    @property
    def end(self) -> EndOrder | None:
        """The order to end, once there is one."""
        return self._end

    def ask_end(self, cause: Cause, message: str, *, save: bool = True) -> None:
        """The first order counts; a later one may only forbid the save."""
        with self._changed:
            if self._end is None or (self._end.save and not save):
                self._end = EndOrder(cause, message, save)
            self._changed.notify_all()

    def check(self) -> None:
        """Raises Ordered once someone wants the run to end."""
        if self._end is not None:
            raise Ordered(self._end)

    def ask_save(self) -> None:
        """Asks for a checkpoint at the next step."""
        self._save = True

    def take_save(self) -> bool:
        """True once for each time a checkpoint was asked for."""
        asked, self._save = self._save, False
        return asked

    def wait_for[T](self, work: Callable[[], T]) -> T:
        """Runs `work` in a thread of its own and returns what it returns.

        An order to end raises Ordered at once and leaves the thread behind: nobody waits out a compilation of many
        minutes during the half minute that a preempted host has left.
        """
        outcome: Future[T] = Future()
        outcome.add_done_callback(lambda _: self._wake())

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:  # handed over whole: the waiting thread raises it
                outcome.set_exception(error)

        self.check()
        threading.Thread(target=run, name="interruptible", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: outcome.done() or self._end is not None)
        if not outcome.done():
            self.check()
        return outcome.result()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
