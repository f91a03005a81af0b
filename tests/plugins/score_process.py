"""A tier of score workers without tritonnb around it: the master started on a plan of the test's own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from tritonnb.foreign.supervisor import __file__ as supervisor

MASTER = Path(supervisor).with_name("score_master.py")
PATIENCE_S = 20.0


class ScoreProcess:
    """A master and its workers, on a script.

    Parameters
    ----------
    folder
        An empty folder for it alone.
    script
        The text of ``score.py``; None where ``folder/src`` holds it already.
    wait
        Return when the script serves.
    plan
        What of the plan differs from the usual.
    """

    def __init__(self, folder, python, script=None, *, wait=True, **plan):
        self.folder = folder
        self.source = folder / "src"
        self.source.mkdir(parents=True, exist_ok=True)
        self.plan = {
            "generation": 1,
            "python": str(python),
            "variables": {"PATH": os.environ["PATH"], "TRITONNB_TEST_SESSION": os.environ["TRITONNB_TEST_SESSION"]},
            "entry_script": str(self.source / "score.py"),
            "shown_as": "score.py",
            "source_directory": str(self.source),
            "host": "127.0.0.1",
            "port": 0,
            "workers": 1,
            "threads": 1,
            "timeout_s": 20.0,
            "init_timeout_s": 20.0,
            "max_body_bytes": 1 << 20,
            "cors_origins": [],
            "auth": False,
        } | plan
        if script is not None:
            self.write("score.py", script)
        self._write_plan()
        with (folder / "score.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", MASTER, str(folder)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            state = self.until(lambda state: state["tried"] == self.plan["generation"] or state["state"] == "failed")
            assert state["state"] == "ready", (state, self.log())

    def write(self, name, text):
        """Write a file beside the script."""
        path = self.source / name
        path.write_text(textwrap.dedent(text))
        return path

    def _write_plan(self):
        draft = self.folder / "plan.json.new"
        draft.write_text(json.dumps(self.plan))
        draft.replace(self.folder / "plan.json")

    def reload(self, script=None, *, wait=True, **plan):
        """Serve a new generation, and return the state when it was tried."""
        if script is not None:
            self.write("score.py", script)
        self.plan |= plan
        self.plan["generation"] += 1
        self._write_plan()
        os.kill(self.process.pid, signal.SIGHUP)
        return self.until(lambda state: state["tried"] == self.plan["generation"]) if wait else None

    @property
    def state(self):
        """What the master tells."""
        return json.loads((self.folder / "state.json").read_text())

    def until(self, condition):
        """Wait for a state, and return it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if (self.folder / "state.json").exists() and condition(state := self.state):
                return state
            assert self.process.poll() is None, self.log()
            time.sleep(0.01)
        raise AssertionError(f"waited in vain: {self.state}\n{self.log()}")

    @property
    def port(self):
        """The port that it listens on."""
        return self.state["port"]

    def log(self):
        """Return what it has logged."""
        return (self.folder / "score.log").read_text(errors="replace")

    def until_logged(self, text):
        """Wait for a text in the log; an access line is written after its answer was sent."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.log():
            assert time.monotonic() < deadline, (text, self.log())
            time.sleep(0.005)

    def connect(self, timeout=PATIENCE_S):
        """Return a connection that is kept alive."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method="POST", path="/score", body=None, headers=None, connection=None):
        """Send a request, and return the status, the headers and the body."""
        own = connection or self.connect()
        try:
            own.request(method, path, body, headers or {})
            response = own.getresponse()
            return response.status, response.headers, response.read()
        finally:
            if not connection:
                own.close()

    def run(self, data, **headers):
        """Send data as JSON, and return the result."""
        status, _, body = self.ask(body=json.dumps(data), headers={"Content-Type": "application/json", **headers})
        assert status == 200, (status, body, self.log())
        return json.loads(body)

    def end(self):
        """End it as its supervisor would, and return the exit code."""
        self.process.terminate()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
