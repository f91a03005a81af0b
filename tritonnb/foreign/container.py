"""Stands for a container where a process is expected: runs one, copies its log, ends as it ended.

Run under ``supervisor.py`` with the standard library alone. ``container.py FOLDER [FLAG ...]`` creates and starts the
container that ``FOLDER/container.json`` describes, with the flags added to its command, and tells in
``FOLDER/container-state.json`` how it goes. ``container.py --remove URL NAME FOLDER`` removes the container of that
folder, whatever state it is in.

Nothing here removes on the way out: the supervisor does, by the second form, however this process ended.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

PLAN = "container.json"
STATE = "container-state.json"
FOLDER_LABEL = "tritonnb.folder"
STOP_S = 1
KILLED = 128 + signal.SIGKILL
REMOVED_S = 0.2  # how long after its kill a container that is removed is gone
AWAY_S = 0.5  # between two looks for a daemon that went away
LIMIT_NAMES = {3: "stack", 8: "memlock"}  # runc tells numbers


class RefusalError(Exception):
    """The daemon refused a request."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Door(http.client.HTTPConnection):
    """A connection to a daemon's socket or address."""

    def __init__(self, url, timeout=None):
        parts = urlsplit(url)
        super().__init__(parts.hostname or "localhost", parts.port or 2375, timeout=timeout)
        self._path = parts.path if parts.scheme == "unix" else ""

    def connect(self):
        """Connect, through the socket where there is one."""
        if not self._path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Daemon:
    """The Docker daemon, asked in its own HTTP API.

    Parameters
    ----------
    url
        ``unix:///path`` or ``tcp://host:port``.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, method: str, path: str, body=None, timeout: float = 60) -> Any:
        """Return the daemon's answer, from JSON; None where it answers nothing."""
        with contextlib.closing(self._send(method, path, body, timeout)) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def stream(self, path: str, method: str = "GET") -> Any:
        """Return an answer that goes on."""
        return self._send(method, path, None, None)

    def _send(self, method, path, body, timeout):
        door = Door(self._url, timeout)
        content = None if body is None else json.dumps(body)
        # Without a version in its path it is the daemon's own: Docker 29 no longer speaks those that Docker 20 does.
        try:
            door.request(method, path, content, {"Content-Type": "application/json", "Connection": "close"})
            answer = door.getresponse()  # takes the socket over, because the connection is to be closed
        except BaseException:
            door.close()
            raise
        if answer.status >= http.client.BAD_REQUEST:
            with contextlib.closing(answer):
                said = answer.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError):
                said = json.loads(said)["message"]
            raise RefusalError(answer.status, said.strip())
        return answer

    def container(self, name, folder):
        """Return what the daemon knows of the container of a folder, or None; of another's of this name too."""
        try:
            told = self.ask("GET", f"/containers/{quote(name)}/json")
        except RefusalError as refused:
            if refused.status == http.client.NOT_FOUND:
                return None
            raise
        return told if (told["Config"].get("Labels") or {}).get(FOLDER_LABEL) == folder else None

    def remove(self, name, folder):
        """Stop and remove the container of a folder; somebody else's of the same name is not touched."""
        told = self.container(name, folder)
        if not told:
            return
        with contextlib.suppress(RefusalError):  # it does not run, or somebody else removes it
            if told["State"].get("Running") and not told["State"].get("Paused"):
                self.ask("POST", f"/containers/{told['Id']}/stop?t={STOP_S}")
        with contextlib.suppress(RefusalError):
            self.ask("DELETE", f"/containers/{told['Id']}?force=1&v=1")


def pieces(output: Any) -> Any:
    """Yield what a container without a terminal wrote: each piece has a header (stream, three zeros, length)."""
    while len(header := output.read(8)) == 8:  # noqa: PLR2004
        yield output.read(struct.unpack(">4xI", header)[0])


class Run:
    """One run of a container.

    Parameters
    ----------
    folder
        The deployment's.
    flags
        What to add to the container's command.
    """

    def __init__(self, folder, flags):
        plan = json.loads((folder / PLAN).read_text())
        self._folder = folder
        self._name = plan["name"]
        self._body = plan["body"]
        self._body["Cmd"] += flags
        self._daemon = Daemon(plan["url"])
        self._told = {}
        self._telling = threading.Lock()
        self._id = ""

    def run(self):
        """Run the container to its end and return its exit code."""
        try:
            self._daemon.remove(self._name, str(self._folder))  # of the run before, where this is a restart
            self._start()
        except RefusalError as refused:
            self._tell(refused=str(refused), status=refused.status)
            return 1
        except OSError as error:
            self._tell(refused=f"the daemon does not answer: {error}", status=0)
            return 1
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, RefusalError):
                self._copy_log()
            state = self._state()
            if state is None:
                self._tell(removed=True)
                return 0  # by hand: whoever did that does not want it started again
            if not (state["Running"] or state.get("Restarting")):
                if state["ExitCode"] == KILLED and not state.get("OOMKilled"):  # a removal by force kills first
                    time.sleep(REMOVED_S)
                    if self._state() is None:
                        continue
                self._tell(exit_code=state["ExitCode"], oom_killed=state.get("OOMKilled"), error=state.get("Error"))
                return state["ExitCode"]
            time.sleep(AWAY_S)  # the log ended and the container did not: its daemon is being restarted

    def _start(self):
        self._create()
        threading.Thread(target=self._follow_events, daemon=True).start()
        try:
            self._daemon.ask("POST", f"/containers/{self._id}/start")
        except RefusalError as refused:
            if not self._without_refused_limit(str(refused)):
                raise
            self._daemon.remove(self._name, str(self._folder))
            self._start()
        else:
            self._tell(started=True)

    def _create(self):
        # A SIGTERM waits: else the daemon would finish a container that nobody knows of.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            self._id = self._daemon.ask("POST", f"/containers/create?name={quote(self._name)}", self._body)["Id"]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._tell(id=self._id)

    def _without_refused_limit(self, refusal):
        """Leave out a limit that this daemon may not set, for want of CAP_SYS_RESOURCE; tell whether there was one."""
        limits = self._body["HostConfig"].get("Ulimits") or []
        named = [name for number, name in LIMIT_NAMES.items() if f"rlimit type {number}:" in refusal]
        kept = [limit for limit in limits if limit["Name"] not in (named or [limit["Name"]])]
        if "rlimit" not in refusal or len(kept) == len(limits):
            return False
        refused = [limit["Name"] for limit in limits if limit not in kept]
        print(f"tritonnb: the daemon may not set the limit {', '.join(refused)}; it is left out.", flush=True)
        self._body["HostConfig"]["Ulimits"] = kept
        self._tell(limits_refused=refused)
        return True

    def _copy_log(self):
        since = self._told.get("log_until", 0)
        path = f"/containers/{self._id}/logs?follow=1&stdout=1&stderr=1&since={since}"
        with contextlib.closing(self._daemon.stream(path)) as log:
            for piece in pieces(log):
                os.write(1, piece)

    def _follow_events(self):
        which = quote(json.dumps({"type": ["container"], "container": [self._id]}))
        with (
            contextlib.suppress(OSError, http.client.HTTPException, RefusalError, ValueError),  # until the daemon goes
            contextlib.closing(self._daemon.stream(f"/events?filters={which}")) as events,
        ):
            for line in events:
                self._take_event(json.loads(line).get("Action"))

    def _take_event(self, action):
        if action in {"pause", "unpause"}:
            self._tell(paused=action == "pause")
        elif action == "oom":
            print("tritonnb: a process of the container was killed for want of memory.", flush=True)
            self._tell(oom=True)

    def _state(self):
        """Return the container's state, as soon as a daemon tells it; None where the container is gone."""
        while True:
            try:
                told = self._daemon.container(self._id, str(self._folder))
            except (OSError, http.client.HTTPException, RefusalError, ValueError) as error:
                if not self._told.get("away"):
                    self._tell(away=str(error), log_until=int(time.time()))
                time.sleep(AWAY_S)
                continue
            if self._told.get("away"):
                self._tell(away="")
                threading.Thread(target=self._follow_events, daemon=True).start()
            return told and told["State"]

    def _tell(self, **facts):
        """Add to the state file at one stroke, so that a reader never sees half of it."""
        with self._telling:
            self._told.update(facts)
            draft = self._folder / f"{STATE}.new"
            draft.write_text(json.dumps(self._told))
            draft.replace(self._folder / STATE)


def main(arguments):
    """Run or remove a container."""
    if arguments[0] == "--remove":
        _, url, name, folder = arguments
        Daemon(url).remove(name, folder)
        return 0
    return Run(Path(arguments[0]), arguments[1:]).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
