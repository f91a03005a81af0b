"""The embedded engine: the tritonserver of the ``nvidia-pytriton`` wheel, on this machine's CPU, without Docker."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tritonnb.client.diagnosis import diagnose
from tritonnb.endpoint import Endpoint
from tritonnb.engines.options import HOST, free_ports, options
from tritonnb.engines.supervised import STOPPED_ELSEWHERE, SupervisedEngine, last_lines
from tritonnb.environments import overlay
from tritonnb.errors import EngineError, PortInUseError, nearest
from tritonnb.repository import link_or_copy
from tritonnb.supervise import Job, SupervisedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.environments import EngineEnvironment, Overlay, Report
    from tritonnb.spec import Spec


class EmbeddedEngine(SupervisedEngine):
    """One tritonserver process with its stub processes.

    Parameters
    ----------
    spec
        What is served and how.
    folder
        The deployment's own folder. The model repository is its ``models``. It is removed at the end.
    key
        The deployment's bearer key.
    why
        Why it was chosen.
    """

    name = "embedded"

    def __init__(self, spec: Spec, folder: Path, key: str, why: str = "") -> None:
        super().__init__(spec, folder, key, why)
        self._packages: EngineEnvironment | Overlay | None = None

    def prepare(self, report: Report) -> None:
        """Build the engine and the overlay of the spec's packages where they are missing."""
        self._packages = overlay(self._spec.environment.pip, report)

    def start(self) -> None:
        """Start the server on loopback.

        Raises
        ------
        PortInUseError
            A port that was asked for is taken.
        EngineError
            The server's program could not be started.
        """
        packages = self._packages or overlay(self._spec.environment.pip)
        server = self._spec.server
        http, grpc, metrics = free_ports((server.http_port, server.grpc_port, server.metrics_port))
        self.endpoint = Endpoint(
            url=f"http://{HOST}:{http}",
            grpc_url=f"{HOST}:{grpc}",
            metrics_url=f"http://{HOST}:{metrics}/metrics",
            headers={"Authorization": f"Bearer {self._key}"},
        )
        self._assemble_backends(packages.base)
        prefix = f"tritonnb_{self._folder.name}_"
        self._begin_log()
        job = Job(
            command=[str(packages.base.tritonserver), *self._options(http, grpc, metrics, prefix)],
            environment=packages.variables(
                {
                    "CUDA_VISIBLE_DEVICES": "",  # the engine's onnxruntime is the CPU build
                    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.32 would send usage data to its maker
                    **self._spec.environment.variables,
                    **server.env,
                }
            ),
            log=str(self._log),
            shared_memory_prefix=prefix,
            owner=None if self._spec.keep else os.getpid(),
            restart=self._spec.restart == "on-failure",
        )
        self._process = SupervisedProcess.start(job, self._folder)

    def _options(self, http: int, grpc: int, metrics: int, prefix: str) -> list[str]:
        own = {
            "backend-directory": str(self._folder / "backends"),
            "http-address": HOST,
            "http-port": str(http),
            "grpc-address": HOST,
            "grpc-port": str(grpc),
            "metrics-address": HOST,
            "metrics-port": str(metrics),
            "allow-gpu-metrics": "false",
        }
        return options(self._spec, self._key, str(self._folder / "models"), prefix, own)

    def _assemble_backends(self, environment: EngineEnvironment) -> None:
        # Real files: Triton refuses a backend library that is a link out of the backend directory.
        backends = self._folder / "backends"
        *library, stub = environment.backend_files
        for source in library:
            link_or_copy(source, backends / "python" / source.name)
        # Triton may take every right but to execute from the stub; a link would take it from the engine's own file.
        shutil.copy(stub, backends / "python" / stub.name)
        with as_file(files("tritonnb").joinpath("foreign", "onnxruntime_backend.py")) as model:
            link_or_copy(model, backends / "onnxruntime" / "model.py")

    def failure(self) -> EngineError | None:
        """Return why the server no longer runs, or None while it does."""
        code = self._process.exit_code() if self._process else None
        if code is None:
            return None
        if not self._folder.exists():
            return EngineError(STOPPED_ELSEWHERE)
        logs = self.logs()
        taken = re.search(r"failed to start (\w+).*?Socket '([^']+)' already in use", logs)
        if taken:
            return PortInUseError(
                f"The port of Triton's {taken[1]} service is taken: {taken[2]}.",
                hint="choose another port, or leave it out for a free one.",
            )
        unknown = re.search(r"unrecognized option '--([^'=]+)", logs)
        if unknown:  # the server then prints all that it knows
            known = re.findall(r"^  --([\w-]+) ", logs, re.MULTILINE)
            return EngineError(f"tritonserver has no flag {unknown[1]!r}.", hint=nearest(unknown[1], known))
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = last_lines(logs)
        return EngineError(f"tritonserver {how}.", logs=last, hint=diagnose(f"{how}\n{last}"))

    def memory_bytes(self) -> int | None:
        """Return the resident memory of the server and its processes; what they share counts once for each."""
        if not (self._process and self._process.pid):
            return None
        try:
            server = psutil.Process(self._process.pid)
            tree = [server, *server.children(recursive=True)]
        except psutil.Error:
            return None
        total = 0
        for one in tree:
            with contextlib.suppress(psutil.Error):  # it has just ended
                total += one.memory_info().rss
        return total or None  # a zombie has none

    def _running_stubs(self, model: str, *, fresh: bool) -> Mapping[Any, str]:
        watched = self._stubs.get(model, {})
        if not fresh and all(_runs(stub) for stub in watched):  # cheaper than to look at all processes
            return watched
        models = self._folder / "models" / model
        try:
            children = psutil.Process(self._process.pid if self._process else 0).children()
        except psutil.Error:  # the server has just ended
            return {}
        stubs = {}
        for process in sorted(children, key=lambda child: child.create_time()):
            try:
                arguments = process.cmdline()
            except psutil.Error:
                continue
            # The stub's first argument is its model file; the last but one its instance, or, for the process that
            # completes the configuration and then ends, the model.
            if len(arguments) > 2 and Path(arguments[1]).is_relative_to(models) and arguments[-2] != model:  # noqa: PLR2004  (as said)
                stubs[process] = arguments[-2]
        return stubs


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
