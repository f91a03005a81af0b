"""The embedded engine: the tritonserver of the ``nvidia-pytriton`` wheel, on this machine's CPU, without Docker."""

from __future__ import annotations

import re
import shutil
import socket
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tritonnb.endpoint import Endpoint
from tritonnb.errors import EngineError, PortInUseError, nearest
from tritonnb.repository import link_or_copy
from tritonnb.supervise import Job, SupervisedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonnb.environments import EngineEnvironment

HOST = "127.0.0.1"
#: Triton's API groups that change or reveal the server itself: they always need the deployment's key.
ADMINISTRATIVE = ("model-repository", "shared-memory", "trace", "logging")
#: The other groups: they need the key where ``auth`` is on.
PUBLIC = ("health", "metadata", "inference", "model-config", "statistics")


class EmbeddedEngine:
    """One tritonserver process with its stub processes.

    Parameters
    ----------
    environment
        The engine environment.
    folder
        The deployment's own folder. The model repository is its ``models``. It is removed at the end.
    key
        The deployment's bearer key.
    auth
        Whether health, metadata and inference need the key too.
    ports
        HTTP, gRPC and metrics port; None for a free one.
    flags
        Further tritonserver options, without the leading dashes; a tuple for one that is given several times.
    variables
        Further environment variables of the server.
    """

    name = "embedded"

    def __init__(
        self,
        environment: EngineEnvironment,
        folder: Path,
        *,
        key: str,
        auth: bool = False,
        ports: tuple[int | None, int | None, int | None] = (None, None, None),
        flags: Mapping[str, object] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = environment
        self._folder = folder
        self._key = key
        self._auth = auth
        self._ports = ports
        self._flags = flags or {}
        self._variables = variables or {}
        self._process: SupervisedProcess | None = None
        self._stubs: dict[str, set[psutil.Process]] = {}
        self._log = folder / "server.log"
        self.endpoint = Endpoint("")

    def start(self) -> None:
        """Start the server on loopback.

        Raises
        ------
        PortInUseError
            A port that was asked for is taken.
        EngineError
            The server's program could not be started.
        """
        http, grpc, metrics = _ports(self._ports)
        self.endpoint = Endpoint(
            url=f"http://{HOST}:{http}",
            grpc_url=f"{HOST}:{grpc}",
            metrics_url=f"http://{HOST}:{metrics}/metrics",
            headers={"Authorization": f"Bearer {self._key}"},
        )
        self._assemble_backends()
        prefix = f"tritonnb_{self._folder.name}_"
        job = Job(
            command=[str(self._environment.tritonserver), *self._options(http, grpc, metrics, prefix)],
            environment={
                **self._environment.variables(),
                "CUDA_VISIBLE_DEVICES": "",  # the engine's onnxruntime is the CPU build
                "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.32 would send usage data to its maker
                **self._variables,
            },
            log=str(self._log),
            shared_memory_prefix=prefix,
        )
        self._process = SupervisedProcess(job, self._folder)

    def _options(self, http: int, grpc: int, metrics: int, prefix: str) -> list[str]:
        guarded = ",".join(ADMINISTRATIVE + (PUBLIC if self._auth else ()))
        options = {
            "model-repository": str(self._folder / "models"),
            "backend-directory": str(self._folder / "backends"),
            # Models are loaded by request: a bad one then answers with its own reason and takes no other down.
            "model-control-mode": "explicit",
            "exit-on-error": "false",
            "strict-readiness": "false",
            "http-address": HOST,
            "http-port": str(http),
            "grpc-address": HOST,
            "grpc-port": str(grpc),
            "metrics-address": HOST,
            "metrics-port": str(metrics),
            "allow-gpu-metrics": "false",
            "http-restricted-api": f"{guarded}:Authorization=Bearer {self._key}",
            "grpc-restricted-protocol": f"{guarded}:authorization=Bearer {self._key}",
            "backend-config": f"python,shm-region-prefix-name={prefix}",
        }
        given = {name: value if isinstance(value, tuple) else (value,) for name, value in self._flags.items()}
        merged = {name: (value,) for name, value in options.items()} | given
        # Triton takes this one several times; of any other the user's own value replaces ours.
        merged["backend-config"] = (options["backend-config"], *given.get("backend-config", ()))
        return [f"--{name}={value}" for name, values in merged.items() for value in values]

    def _assemble_backends(self) -> None:
        # Real files: Triton refuses a backend library that is a link out of the backend directory.
        backends = self._folder / "backends"
        for source in self._environment.backend_files:
            link_or_copy(source, backends / "python" / source.name)
        with as_file(files("tritonnb").joinpath("foreign", "onnxruntime_backend.py")) as model:
            link_or_copy(model, backends / "onnxruntime" / "model.py")

    def failure(self) -> EngineError | None:
        """Return why the server no longer runs, or None while it does."""
        code = self._process.exit_code() if self._process else None
        if code is None:
            return None
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
        return EngineError(f"tritonserver {how}.", logs=last_lines(logs))

    def watch(self, model: str) -> None:
        """Remember the stub processes of ``model``: after one dies Triton still calls the model ready."""
        self._stubs[model] = set(self._stubs_of(model))

    def forget(self, model: str) -> None:
        """No longer watch ``model``."""
        self._stubs.pop(model, None)

    def lost_processes(self) -> dict[str, str]:
        """Return, by model, how many of its stub processes have died since it became ready."""
        lost = {}
        for model, stubs in list(self._stubs.items()):
            dead = sum(not _runs(stub) for stub in stubs)
            if dead:
                lost[model] = f"{dead} of its {len(stubs)} processes died; its requests fail. Load it again."
        return lost

    def _stubs_of(self, model: str) -> list[psutil.Process]:
        if not self._process:
            return []
        models = self._folder / "models" / model
        stubs = []
        for process in psutil.Process(self._process.pid).children():
            try:
                arguments = process.cmdline()
            except psutil.Error:
                continue
            if len(arguments) > 1 and Path(arguments[1]).is_relative_to(
                models
            ):  # the stub's first argument: its model file
                stubs.append(process)
        return stubs

    def logs(self) -> str:
        """Return the server's log so far."""
        try:
            return self._log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self) -> None:
        """Stop the server; its processes, shared memory and folder are gone afterwards."""
        if self._process:
            self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)  # a start that did not come to a process leaves it


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _ports(asked: tuple[int | None, ...]) -> list[int]:
    """Return the ports to use: the asked ones, checked to be free, and free ones for the rest."""
    held, ports = [], []
    try:
        for port in asked:
            listener = socket.socket()
            held.append(listener)
            # As tritonserver binds: a port that a closed connection still holds is not taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port or 0))
            except OSError as error:
                raise PortInUseError(
                    f"Port {port} of {HOST} is taken or not allowed: {error.strerror}.",
                    hint="choose another port, or leave it out for a free one.",
                ) from error
            ports.append(listener.getsockname()[1])
    finally:
        for listener in held:
            listener.close()
    return ports


def last_lines(logs: str, count: int = 12) -> str:
    """Return the last lines of a server's log that say something: without tables, blank lines and notes."""
    lines = [line for line in logs.splitlines() if line.strip() and line[0] not in "|+"]
    telling = [line for line in lines if not re.match(r"I\d{4} ", line)]
    return "\n".join((telling or lines)[-count:])
