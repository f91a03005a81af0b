"""Hands requests to the script's threads and answers back; ends those that take too long."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from .messages import Answer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .log import Log, LogStream
    from .messages import Request
    from .script import Script
    from .tracebacks import Tracebacks


class Client(Protocol):
    """Who waits for an answer, as uvicorn knows him."""

    disconnected: bool


class _Job:
    __slots__ = ("client", "future", "request", "since", "thread")

    def __init__(self, request: Request, client: Client, future: asyncio.Future[Answer]) -> None:
        self.request = request
        self.client = client
        self.future = future
        self.since = 0.0  # 0: it waits
        self.thread = 0


class Runs:
    """The calls of ``run()`` of one worker.

    The main thread imports the script, calls ``init()`` and then ``run()``, request by request, because clients that a
    script makes in ``init()`` must often stay in their thread. The event loop has a thread of its own. Both
    hand over without a pool: a queue one way, and the other way a list and one ring of the loop's bell for all that
    is done meanwhile.

    Parameters
    ----------
    script
        The entry script.
    threads
        How many threads call ``run()``.
    timeout_s
        How long a call may take.
    tracebacks
        Says where a call was that took too long.
    log
        Whose lines are marked with the request.
    streams
        What the script prints to.
    tell_since
        Told since when the oldest call goes on; 0 where none does.
    """

    def __init__(
        self,
        script: Script,
        *,
        threads: int,
        timeout_s: float,
        tracebacks: Tracebacks,
        log: Log,
        streams: tuple[LogStream, ...],
        tell_since: Callable[[float], None],
    ) -> None:
        self._script = script
        self._timeout_s = timeout_s
        self._tracebacks = tracebacks
        self._log = log
        self._streams = streams
        self._tell_since = tell_since
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[tuple[_Job, Answer]] = deque()
        self._rung = False
        self._since = [math.inf] * threads
        self._open: set[_Job] = set()
        self._clock: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self.on_timeout: Callable[[], None] = lambda: None

    # The event loop's side ------------------------------------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop the answers go to."""
        self._loop = loop

    async def answer(self, request: Request, client: Client) -> Answer:
        """Have ``run()`` called with a request, unless its client has gone before."""
        future = self._loop.create_future()
        job = _Job(request, client, future)
        self._open.add(job)
        if self._clock is None:
            self._clock = self._loop.call_later(self._timeout_s, self._look_at_clock)
        self._waiting.put(job)
        try:
            return await future
        finally:
            self._open.discard(job)

    def stop(self) -> None:
        """Let the threads end when they have done what waits."""
        for _ in self._since:
            self._waiting.put(None)

    def _deliver(self) -> None:
        self._rung = False  # before the look: who adds after it rings again
        while self._done:
            job, answer = self._done.popleft()
            if not job.future.done():
                job.future.set_result(answer)

    def _look_at_clock(self) -> None:
        """End what takes too long; one timer serves all requests, so that none of them pays for it."""
        self._clock = None
        now = time.monotonic()
        late = [job for job in self._open if job.since and now >= job.since + self._timeout_s]
        if late:
            self._end(late)
        elif self._open:
            first = min((job.since for job in self._open if job.since), default=now)
            self._clock = self._loop.call_later(first + self._timeout_s - now, self._look_at_clock)

    def _end(self, late: list[_Job]) -> None:
        limit_ms = round(self._timeout_s * 1000)
        for job in self._open:
            if job in late:
                place = self._tracebacks.of_thread(job.thread)
                text = f"run() did not return within {limit_ms} ms; it was here when it was given up:\n{place}"
                self._log.write(text, job.request.request_id)
                answer = Answer.refusal(500, f"Scoring timeout after {limit_ms} ms", run_failed=True)
            elif not job.since:
                answer = Answer.refusal(
                    503, "The worker that this request waited for is being replaced. Send it again."
                )
                answer.headers.append((b"retry-after", b"1"))
            else:
                continue  # beside it in another thread: it has its own time
            if not job.future.done():
                job.future.set_result(answer)
        self.on_timeout()

    # The script's side ----------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Call ``run()`` for request after request until told to stop; the first of the threads is the caller's."""
        others = [threading.Thread(target=self._work, args=(n,)) for n in range(1, len(self._since))]
        for other in others:
            other.start()
        self._work(0)
        for other in others:
            other.join()

    def _work(self, number: int) -> None:
        thread = threading.get_ident()
        while job := self._waiting.get():
            if job.client.disconnected or job.future.done():
                self._ring(job, Answer(503, b""))  # nobody will see it
                continue
            self._log.request_id = job.request.request_id
            job.thread, job.since = thread, time.monotonic()
            self._since[number] = job.since
            self._tell_since(min(self._since))
            answer = self._script.answer(job.request)
            for stream in self._streams:
                stream.end_line()
            self._log.request_id = "-"
            self._since[number] = math.inf
            oldest = min(self._since)
            self._tell_since(0.0 if oldest == math.inf else oldest)
            self._ring(job, answer)

    def _ring(self, job: _Job, answer: Answer) -> None:
        self._done.append((job, answer))
        if not self._rung:
            self._rung = True
            self._loop.call_soon_threadsafe(self._deliver)
