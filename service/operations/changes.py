"""Tells coroutines that wait for news of a job that there is some. Storage calls in from its threads."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Watch:
    """One waiter's view of one job. News that come while it is busy are kept for its next wait."""

    def __init__(self, changes: "Changes") -> None:
        self._changes = changes
        self._news = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """True once there are news; False after `seconds`, or at once when the service is closing."""
        with anyio.move_on_after(seconds):
            if not self._changes.closing:
                await self._news.wait()
        found = self._news.is_set()
        self._news.clear()
        return found and not self._changes.closing

    def tell(self) -> None:
        """Ends the present wait, or the next one."""
        self._news.set()


class Changes:
    """News by job id, within this process. To be made inside the event loop that the waiters run in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)
        self.closing = False
        """True from when the service begins to end: waiting is over for everyone."""

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """A view of the job's news from now on."""
        watch = Watch(self)
        self._watches[job_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[job_id].discard(watch)
            if not self._watches[job_id]:
                del self._watches[job_id]

    def notify(self, job_id: str) -> None:
        """There are news of this job. From any thread."""
        self._tell_soon(job_id)

    def close(self) -> None:
        """Ends all waiting. From any thread or signal handler."""
        self.closing = True
        self._tell_soon(*list(self._watches))

    def _tell_soon(self, *job_ids: str) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, *job_ids)

    def _tell(self, *job_ids: str) -> None:
        for job_id in job_ids:
            for watch in self._watches.get(job_id, ()):
                watch.tell()
