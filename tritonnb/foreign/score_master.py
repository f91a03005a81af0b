"""Keeps the workers of an entry-script tier: starts, watches, swaps and replaces them.

Run under ``supervisor.py`` with the standard library alone: ``score_master.py FOLDER``. ``FOLDER/plan.json`` says what
is to be served; ``FOLDER/state.json`` tells how it goes. SIGHUP: a new generation of the plan is there. Its workers
boot beside the old ones and take over only when all of them are ready; where one fails, the old ones go on.

The master binds the port, and the workers accept from that one socket, so that no connection is refused or lost while
they change. It holds no connection itself, and what a script does cannot reach it.
"""

import contextlib
import json
import math
import mmap
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

WORKER = Path(__file__).with_name("score_worker.py")
TICK_S = 0.2  # between two looks at the clocks: time limits, back-offs, workers that hang
GRACE_S = 3.0  # beyond its own time limit a worker has this long to end what it does before it is killed
IDLE_S = 5.0  # how long a worker that leaves keeps idle connections (IDLE_WHEN_LEAVING_S in score_host/worker.py)
STEADY_S = 10.0  # a worker that served so long did not die of its start
BACK_OFF_S = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MOST_WORKERS = 512  # of two generations together
TOO_MANY = f"there can be {MOST_WORKERS} workers, those of before that still end included"
BACKLOG = 2048
FREE = math.nan


class Board:
    """What the workers tell without a message, in memory that all of them share: two floats for each.

    The first is how many connections a worker has (infinite: it takes none), so that each new one goes to the worker
    with the fewest. The second is since when its oldest run() goes on (monotonic seconds; 0: none), so that the master
    sees a worker whose interpreter hangs.
    """

    def __init__(self):
        self.descriptor = os.memfd_create("tritonnb-score")
        os.truncate(self.descriptor, 16 * MOST_WORKERS)
        self._cells = memoryview(mmap.mmap(self.descriptor, 0)).cast("d")
        for slot in range(MOST_WORKERS):
            self.free(slot)

    def take(self):
        """Return the number of a free slot, taken; `OSError` where there is none."""
        slot = next((slot for slot in range(MOST_WORKERS) if math.isnan(self._cells[2 * slot])), None)
        if slot is None:
            raise OSError(TOO_MANY)
        self._cells[2 * slot], self._cells[2 * slot + 1] = math.inf, 0.0
        return slot

    def free(self, slot):
        """Give a slot back."""
        self._cells[2 * slot], self._cells[2 * slot + 1] = FREE, 0.0

    def running_since(self, slot):
        """Return since when the oldest run() of a worker goes on; 0 where none does."""
        return self._cells[2 * slot + 1]


class Worker:
    """One worker process.

    Parameters
    ----------
    plan
        The generation of the plan that it serves.
    number
        Its number in the log, from 1.
    listener
        The socket that it accepts from.
    board
        Where it tells how busy it is.
    """

    def __init__(self, plan, number, listener, board):
        self.plan = plan
        self.number = number
        self.ready = False
        self.leaving = False  # told to end, or ending after a time limit
        self.failure = None
        self.deadline = time.monotonic() + plan["init_timeout_s"] + GRACE_S  # the worker's own limit comes first
        self.began = time.monotonic()
        self._board = board
        self._slot = board.take()
        self._heard = b""
        self.control, theirs = socket.socketpair()
        passed = (theirs.fileno(), listener.fileno(), board.descriptor)
        try:
            self.process = subprocess.Popen(
                [plan["python"], "-P", "-u", WORKER, *map(str, passed), str(self._slot)],
                env=plan["variables"],
                cwd=plan["source_directory"],
                stdin=subprocess.DEVNULL,
                pass_fds=passed,
            )
        except OSError:
            self.control.close()
            board.free(self._slot)
            raise
        finally:
            theirs.close()
        self.started = started(self.process.pid)
        self.ended = os.pidfd_open(self.process.pid)
        told = {key: value for key, value in plan.items() if key != "variables"}
        self.tell(json.dumps({**told, "number": number}))
        self.control.settimeout(0)

    def messages(self):
        """Return what the worker has said since the last call."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while piece := self.control.recv(65536):
                self._heard += piece
        *lines, self._heard = self._heard.split(b"\n")
        return [json.loads(line) for line in lines]

    def tell(self, line):
        """Send a line: the plan first, then ``serve`` and ``drain``."""
        with contextlib.suppress(OSError):  # it has just ended, which its pidfd tells
            self.control.sendall(line.encode() + b"\n")

    def answers(self):
        """Tell whether a run() goes on, within the time limit."""
        since = self._board.running_since(self._slot)
        return since and time.monotonic() < since + self.plan["timeout_s"]

    def hangs(self):
        """Tell whether a run() goes on well beyond the time limit: then even the worker's event loop is stuck."""
        since = self._board.running_since(self._slot)
        return since and time.monotonic() > since + self.plan["timeout_s"] + GRACE_S

    def kill(self):
        """End the process at once."""
        self.process.kill()  # does nothing where it has ended

    def close(self):
        """Let go of what the worker had."""
        self.process.wait()
        os.close(self.ended)
        self.control.close()
        self._board.free(self._slot)


class Master:
    """The tier of one folder."""

    def __init__(self, folder):
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._board = Board()
        self._workers = []
        self._waiting = []  # replacements that a back-off delays: (when, number)
        self._early_ends = 0  # how many workers in a row died soon after their start
        self._serving = None  # the plan that serves
        self._trying = None  # the plan whose workers boot
        self._listening = False
        self._state = {
            "generation": 0,
            "tried": 0,
            "port": 0,
            "state": "starting",
            "workers": [],
            "replaced": 0,
            "error": None,
        }

    def run(self):
        """Serve until SIGTERM."""
        asked, ring = socket.socketpair()
        for end in (asked, ring):
            end.settimeout(0)
        signal.set_wakeup_fd(ring.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        plan = self._plan()
        try:
            self._listener = bind(plan["host"], plan["port"])
        except OSError as error:
            self._state["tried"] = plan["generation"]
            self._fail(plan, "port", f"port {plan['port']} cannot be bound: {error.strerror}")
            return 1
        self._tell(port=self._listener.getsockname()[1])
        self._boot(plan)
        self._selector.register(asked, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(TICK_S):
                if key.fileobj is asked:
                    signals = asked.recv(64)
                    if signal.SIGTERM in signals:
                        return self._end(0)
                    if signal.SIGHUP in signals:
                        self._boot(self._plan())
                elif key.data in self._workers:
                    self._hear(key.data, ended=key.fd == key.data.ended)
            self._look_at_clocks()

    def _plan(self):
        return json.loads((self._folder / "plan.json").read_text()) | {"folder": str(self._folder)}

    def _boot(self, plan):
        """Start the workers of a plan; those of one that is not ready yet are given up."""
        if plan["generation"] <= self._state["tried"] or (
            self._trying and plan["generation"] <= self._trying["generation"]
        ):
            return
        if self._trying:
            self._give_up(self._trying)
        self._trying = plan
        if plan["workers"] + len(self._workers) > MOST_WORKERS:  # before any of them takes memory
            self._failed(plan, {"kind": "worker", "message": TOO_MANY, "traceback": ""})
            return
        for number in range(1, plan["workers"] + 1):
            if not self._start(plan, number):
                return

    def _start(self, plan, number):
        try:
            worker = Worker(plan, number, self._listener, self._board)
        except OSError as error:
            self._failed(
                plan, {"kind": "worker", "message": f"a worker cannot be started: {error}", "traceback": ""}, number
            )
            return False
        self._workers.append(worker)
        self._selector.register(worker.control, selectors.EVENT_READ, worker)
        self._selector.register(worker.ended, selectors.EVENT_READ, worker)
        return True

    def _hear(self, worker, *, ended):
        for message in worker.messages():
            if message["is"] == "ready":
                worker.ready = True
                self._take_over(worker)
            elif message["is"] == "failed":
                worker.failure = message["failure"]
            elif message["is"] == "timeout":
                self._replace(worker)
        if ended:
            self._take_leave(worker)

    def _take_over(self, worker):
        """Let the workers of a plan serve, once all are ready; a replacement alone as soon as it is."""
        plan = worker.plan
        if plan is self._trying:
            mine = [other for other in self._workers if other.plan is plan]
            if not all(other.ready for other in mine):
                return
            self._serving, self._trying = plan, None
            self._waiting.clear()
            self._early_ends = 0
            self._listen()
            for other in mine:
                other.tell("serve")
            for other in self._workers:
                if other.plan is not plan:
                    self._drain(other)
            self._tell(generation=plan["generation"], tried=plan["generation"], error=None)
        elif plan is self._serving:
            self._listen()
            worker.tell("serve")
            error = self._state["error"]
            self._tell(error=error if error and error["generation"] != plan["generation"] else None)

    def _listen(self):
        """Let clients connect; not before a worker is there, so that none waits for one that may never come."""
        if self._listening:
            return
        try:
            self._listener.listen(BACKLOG)
        except OSError as error:
            port = self._state["port"]
            self._fail(self._serving, "port", f"another program took port {port} meanwhile: {error.strerror}")
            sys.exit(self._end(1))
        self._listening = True

    def _drain(self, worker):
        if not worker.leaving:
            worker.leaving = True
            worker.deadline = time.monotonic() + worker.plan["timeout_s"] + IDLE_S + GRACE_S
            worker.tell("drain")

    def _take_leave(self, worker):
        """Draw the conclusion from a worker's end."""
        self._selector.unregister(worker.control)
        self._selector.unregister(worker.ended)
        self._workers.remove(worker)
        worker.close()
        if worker.leaving:
            self._tell()
        elif worker.plan is self._serving and worker.ready:
            message = f"worker {worker.number} {ending(worker.process.returncode)} while it served"
            say(f"{message}; it is replaced")
            self._replace(worker)
            if not self._listening:
                self._fail(worker.plan, "worker", message)
        else:
            self._failed(worker.plan, worker.failure or self._unexplained(worker), worker.number)

    def _unexplained(self, worker):
        what = f"the worker {ending(worker.process.returncode)} before init() had returned"
        return {"kind": "worker", "message": what, "traceback": ""}

    def _replace(self, worker):
        """Start a worker in the place of one that died or exceeded its time limit."""
        worker.leaving = True
        worker.deadline = time.monotonic() + worker.plan["timeout_s"] + GRACE_S
        if worker.plan is self._serving:  # else it leaves anyway
            self._tell(replaced=self._state["replaced"] + 1)
            steady = time.monotonic() - worker.began > STEADY_S
            self._early_ends = 0 if steady else self._early_ends + 1
            self._wait_and_start(worker.number)

    def _wait_and_start(self, number):
        wait = BACK_OFF_S[min(self._early_ends, len(BACK_OFF_S) - 1)]
        self._waiting.append((time.monotonic() + wait, number))
        if wait and self._listening and not any(worker.ready for worker in self._in_service()):
            self._listener.shutdown(socket.SHUT_RD)  # the port stays ours, and who connects is refused at once
            self._listening = False

    def _in_service(self):
        return [worker for worker in self._workers if worker.plan is self._serving and not worker.leaving]

    def _failed(self, plan, failure, number=0):
        """Take note of a worker that did not get ready."""
        if plan is self._trying:
            self._give_up(plan)
            self._trying = None
            self._state["tried"] = plan["generation"]
        elif plan is self._serving:  # a replacement
            self._early_ends += 1
            self._wait_and_start(number)
        else:
            return
        self._fail(plan, **failure)

    def _fail(self, plan, kind, message, traceback=""):
        generation = plan["generation"]
        self._tell(error={"generation": generation, "kind": kind, "message": message, "traceback": traceback})

    def _give_up(self, plan):
        for worker in self._workers:
            if worker.plan is plan:
                worker.leaving = True
                worker.kill()

    def _look_at_clocks(self):
        now = time.monotonic()
        for worker in self._workers:
            if worker.leaving and worker.answers():  # one call after the other: nobody who waits is turned away
                worker.deadline = max(worker.deadline, now + IDLE_S + GRACE_S)
            if worker.hangs():
                say(f"worker {worker.number} does not react; it is killed")
                worker.kill()
            elif (worker.leaving or not worker.ready) and now > worker.deadline:
                worker.failure = worker.failure or {
                    "kind": "timeout",
                    "message": f"init() did not return within {worker.plan['init_timeout_s']:g} s",
                    "traceback": "",
                }
                worker.kill()
        due = [number for when, number in self._waiting if now >= when]
        self._waiting = [(when, number) for when, number in self._waiting if now < when]
        for number in due:
            self._start(self._serving, number)

    def _end(self, code):
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.process.wait()
        return code

    def _tell(self, **facts):
        """Write ``state.json`` at one stroke, so that a reader never sees half of it."""
        self._state.update(facts)
        serving = self._in_service()
        ready = any(worker.ready for worker in serving)
        self._state["state"] = "ready" if ready else "failed" if self._state["error"] else "starting"
        self._state["workers"] = [
            {
                "number": worker.number,
                "pid": worker.process.pid,
                "started": worker.started,
                "ready": worker.ready,
            }
            for worker in sorted(serving, key=lambda worker: worker.number)
        ]
        draft = self._folder / "state.json.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(self._state))
        draft.replace(self._folder / "state.json")


def bind(host, port):
    """Return a socket on a port; it does not listen yet."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    if port:
        return bound
    with bound:  # a port that the system chose would be given back whenever the socket stops to listen
        return bind(*bound.getsockname())


def say(text):
    """Add a line of the master's own to the log."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    print(f"{stamp}.{int(now % 1 * 1000):03d}Z [master] [-] {text}", flush=True)


def ending(code):
    """Say how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    names = {number.value: number.name for number in signal.Signals}  # the real-time ones have none
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def started(pid):
    """Return when a process was started, in clock ticks since boot."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


if __name__ == "__main__":
    sys.exit(Master(Path(sys.argv[1])).run())
