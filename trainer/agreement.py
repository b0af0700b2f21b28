"""What the processes of one attempt do together: save, or end, after the same step.

Orders reach one process, whenever they like; a save and an end take all of them. So an order travels with the step:

    process p sends step n with what it was asked, a number        voice_p(n) = 0 nothing, 1 save, 16.. end, 32.. end
    the step returns the largest number of all devices             heard(n) = max over p of voice_p(n)
    once n is done and n + 1 is sent, every process obeys heard(n)     after step n + 1

No process waits for the network on its own, nor for a step that it would not wait for anyway. Numbers from 16 on are
an end that saves, from 32 on one that does not; what is above 16 or 32 tells the cause. Where no step runs, at the
same place in all processes, `check` asks at once. A process that is alone obeys itself, without delay.
"""

from collections import deque
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainer.orders import EndOrder, Ordered, Orders
from vishwamai.contract.states import Cause

_SAVE, _END, _END_UNSAVED = 1, 16, 32
_CAUSES = list(Cause)
assert len(_CAUSES) <= _END_UNSAVED - _END


class Agreement:
    """One process's part in it; `orders` are what this process is asked."""

    def __init__(self, orders: Orders, mesh: Mesh) -> None:
        self.alone = jax.process_count() == 1
        """The only process: nobody has to agree."""
        self._orders = orders
        self._place = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._devices = mesh.size
        self._voices: dict[int, jax.Array] = {}
        self._sent: deque[jax.Array] = deque()
        self._save = False
        self._end: EndOrder | None = None
        self._loudest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def voice(self) -> jax.Array | None:
        """int32 [devices], one on each: what this process was asked, for the step about to be sent; None if alone."""
        if self.alone:
            return None
        number = _SAVE if self._orders.take_save() else 0
        if (end := self._orders.end) is not None:
            number = (_END if end.save else _END_UNSAVED) + _CAUSES.index(end.cause)
        return self._spoken(number)

    @property
    def silence(self) -> jax.Array | None:
        """What is said when nothing was asked."""
        return None if self.alone else self._spoken(0)

    def sent(self, heard: jax.Array) -> None:
        """A step was sent, and this is what it will return; the step before it is done."""
        if self.alone:
            return
        heard.copy_to_host_async()
        self._sent.append(heard)
        while len(self._sent) > 1:
            self._obey(int(self._sent.popleft()))

    def check(self) -> None:
        """Raises Ordered where all processes are to end here."""
        if self.alone:
            self._orders.check()
        elif self._end is not None:
            raise Ordered(self._end, agreed=True)

    def check_now(self) -> None:
        """The same outside of steps, which costs a word between all processes; all must call it at the same place."""
        if not self.alone:
            self._obey(int(self._loudest(self.voice())))
        self.check()

    def take_save(self) -> bool:
        """True once for each time that all processes are to save here."""
        if self.alone:
            return self._orders.take_save()
        asked, self._save = self._save, False
        return asked

    def wait_for[T](self, work: Callable[[], T]) -> T:
        """What `work` returns. Alone, an order to end leaves it behind; others would wait in it for this process."""
        return self._orders.wait_for(work) if self.alone else work()

    def may_save(self, order: Ordered) -> bool:
        """Whether every process is where a save begins, and no one has forbidden it meanwhile."""
        if self.alone:
            return order.save and (self._orders.end is None or self._orders.end.save)
        return order.save and order.agreed

    def _obey(self, heard: int) -> None:
        if heard == _SAVE:
            self._save = True
        elif heard >= _END and self._end is None:
            save = heard < _END_UNSAVED
            cause = _CAUSES[heard - (_END if save else _END_UNSAVED)]
            own = self._orders.end
            message = own.message if own is not None and own.cause is cause else "Another process was told to end"
            self._end = EndOrder(cause, message, save)

    def _spoken(self, number: int) -> jax.Array:
        if number not in self._voices:
            own = np.full(1, number, np.int32)  # every device has one place of the array
            self._voices[number] = jax.make_array_from_callback((self._devices,), self._place, lambda _: own)
        return self._voices[number]
