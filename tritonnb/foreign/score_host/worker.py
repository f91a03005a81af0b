"""One worker: the script in the main thread, the event loop in another, the master at the end of a socket."""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import resource
import socket
import sys
import threading
import time
import traceback
from pathlib import Path

from . import contrib
from .app import App
from .cross_origin import CrossOrigin
from .keys import Keys
from .log import Log, take_prints
from .runs import Runs
from .script import Script, ScriptError
from .server import Server
from .swagger import Swagger
from .tracebacks import Tracebacks

# A busy run() must not hold the event loop up for Python's usual 5 ms. But who waits for the interpreter sets this as
# an alarm: well below the kernel's tick it is a timer of its own, and costs a lone request 40 us in a virtual machine.
SWITCH_S = 0.002
FAILED = 3
IDLE_WHEN_LEAVING_S = 5.0  # how long a kept connection may be idle when its worker is to leave
LINGER_S = 0.2  # the same where the worker exceeded its time limit
MOST_LINGER_S = 1.0


class Worker:
    """The worker.

    Parameters
    ----------
    control
        The master at the other end.
    listener
        The socket that all workers accept from.
    board
        The memory that they share.
    slot
        This worker's place in it.
    """

    def __init__(self, control: socket.socket, listener: socket.socket, board: memoryview, slot: int) -> None:
        self._control = control
        self._listener = listener
        self._board = board
        self._slot = slot
        self._plan = json.loads(_first_line(control))
        self._path = Path(self._plan["entry_script"])
        self._tracebacks = Tracebacks(self._path, self._plan["shown_as"])
        self._log = Log(sys.stdout.fileno(), self._plan["number"])
        self._streams = take_prints(self._log)
        self._server: Server
        self._app: App
        self._runs: Runs
        self._leaving: asyncio.Task | None = None
        self._code = 0

    def run(self) -> int:
        """Serve until told to leave, and return the exit code."""
        try:
            script, swagger = self._load()
        except ScriptError as error:
            self._end_lines()
            self._fail(error.failure)
            return FAILED
        self._end_lines()
        plan = self._plan
        self._runs = Runs(
            script,
            threads=plan["threads"],
            timeout_s=plan["timeout_s"],
            tracebacks=self._tracebacks,
            log=self._log,
            streams=self._streams,
            tell_since=self._tell_since,
        )
        self._runs.on_timeout = self._give_up
        self._app = App(
            runs=self._runs,
            swagger=swagger,
            keys=Keys(Path(plan["folder"], "keys.json")) if plan["auth"] else None,
            cross_origin=CrossOrigin(plan["cors_origins"]),
            max_body_bytes=plan["max_body_bytes"],
            log=self._log,
        )
        threading.Thread(target=self._serve, daemon=True).start()
        self._runs.work()
        return self._code

    def _load(self) -> tuple[Script, Swagger]:
        """Import the script and call its ``init()``, within its time limit."""
        began = time.monotonic()
        limit_s = self._plan["init_timeout_s"]
        guard = threading.Timer(limit_s, self._init_hangs, (threading.get_ident(), limit_s))
        guard.daemon = True
        guard.start()
        sys.path[:0] = dict.fromkeys((self._plan["source_directory"], str(self._path.parent)))
        sys.argv = [str(self._path)]
        script = Script(self._path, self._plan["shown_as"], self._tracebacks, self._log)
        script.init()
        guard.cancel()
        self._log.write(f"init() returned; this worker was ready after {time.monotonic() - began:.3f} s")
        try:
            return script, Swagger(script.run, Path(self._plan["source_directory"]))
        except ValueError as error:
            raise ScriptError("import", f"the swagger.json beside the script is no JSON: {error}") from None

    def _init_hangs(self, thread: int, limit_s: float) -> None:
        message = f"init() did not return within {limit_s:g} s"
        self._fail({"kind": "timeout", "message": message, "traceback": self._tracebacks.of_thread(thread)})
        os._exit(FAILED)

    def _fail(self, failure: dict[str, str]) -> None:
        self._log.write(f"{failure['message']}\n{failure['traceback']}")
        self._tell(**{"is": "failed", "failure": failure})

    def _end_lines(self) -> None:
        for stream in self._streams:
            stream.end_line()

    def _tell(self, **message) -> None:
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(FAILED)  # the master is gone

    def _tell_since(self, since: float) -> None:
        self._board[2 * self._slot + 1] = since

    # The event loop's thread ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._server = Server(self._app, self._listener, self._board, self._slot)
            with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
                runner.run(self._serve_on_loop())
        except BaseException:  # noqa: BLE001  (the thread's last word)
            self._log.write(traceback.format_exc())
            self._code = FAILED
        self._runs.stop()

    async def _serve_on_loop(self) -> None:
        loop = asyncio.get_running_loop()
        self._runs.attach(loop)
        self._control.settimeout(0)
        loop.add_reader(self._control.fileno(), self._hear)
        self._tell(**{"is": "ready"})
        await self._server._serve([])  # noqa: SLF001  (serve() would take signals, which are the main thread's)

    def _hear(self) -> None:
        said = self._control.recv(4096)
        if not said:
            os._exit(FAILED)  # the master is gone: nobody would ever end this worker
        if b"serve" in said.split():
            self._server.accept()
        if b"drain" in said.split():
            self._leave(IDLE_WHEN_LEAVING_S)

    def _leave(self, idle_s: float) -> None:
        self._server.leave()
        self._app.leaving = True
        self._leaving = asyncio.get_running_loop().create_task(self._server.end(idle_s))

    def _give_up(self) -> None:
        """Leave because a call does not end: its thread cannot be stopped, so the process is."""
        if self._app.refusing:
            return
        self._app.refusing = True
        self._tell(**{"is": "timeout"})
        self._leave(LINGER_S)
        self._leaving.add_done_callback(lambda _: os._exit(FAILED))
        # Calls in other threads have their own time; where there is none, somebody may still be sending.
        others_s = self._plan["timeout_s"] if self._plan["threads"] > 1 else 0.0
        asyncio.get_running_loop().call_later(others_s + MOST_LINGER_S, os._exit, FAILED)


def main(control: int, listener: int, board: int, slot: int) -> None:
    """Run a worker on the master's descriptors."""
    for descriptor in (control, listener, board):
        os.set_inheritable(descriptor, False)  # noqa: FBT003  (the standard library's signature)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # often many times what a process is given at first
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sys.dont_write_bytecode = True  # the user's folders stay as they are, and no stale .pyc is taken for a new cell
    sys.setswitchinterval(SWITCH_S)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger().setLevel(os.environ.get("AZUREML_LOG_LEVEL", "INFO"))
    # A script that configures no logging sees its lines all the same, in the form of logging.basicConfig().
    logging.lastResort.setLevel(logging.NOTSET)
    logging.lastResort.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    contrib.offer()
    accepted_from = socket.socket(fileno=listener)
    accepted_from.settimeout(0)
    cells = memoryview(mmap.mmap(board, 0)).cast("d")
    sys.exit(Worker(socket.socket(fileno=control), accepted_from, cells, slot).run())


def _first_line(control: socket.socket) -> bytes:
    with control.makefile("rb", buffering=0) as file:
        return file.readline()
