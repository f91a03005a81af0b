"""The Docker engine: a tritonserver container on this machine, with a GPU where there is one.

The container is created, started, followed and removed by a small process under the deployment's supervisor
(``foreign/container.py``), so that nothing of it outlives the kernel, whenever that is killed.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.endpoint import Endpoint
from tritonnb.engines import container_failures
from tritonnb.engines.container_failures import ContainerState
from tritonnb.engines.daemon import OTHERWISE, Address, address, docker_client, inside_container
from tritonnb.engines.gpus import device_requests
from tritonnb.engines.image_python import image_path, packages_for
from tritonnb.engines.images import DEFAULT, Image, local_image, pull
from tritonnb.engines.options import HOST, free_ports, options
from tritonnb.engines.releases import check_flags, knows
from tritonnb.engines.supervised import STOPPED_ELSEWHERE, SupervisedEngine
from tritonnb.errors import EngineError, SpecError
from tritonnb.foreign.container import FOLDER_LABEL, PLAN, STATE, Daemon, RefusalError
from tritonnb.foreign.container import __file__ as CONTAINER  # noqa: N812  (a constant, whatever Python calls it)
from tritonnb.home import home, home_folder
from tritonnb.supervise import Job, SupervisedProcess, started

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from docker import DockerClient
    from docker.types import DeviceRequest

    from tritonnb.environments import Report
    from tritonnb.spec import Spec

#: Where tritonserver listens in its container.
HTTP, GRPC, METRICS = 8000, 8001, 8002
#: What a spec says elsewhere, and what the container's ports and mounts rest on.
_IN_THE_SPEC = {
    "model-repository": "models",
    "model-store": "models",
    "http-port": "server.http_port",
    "grpc-port": "server.grpc_port",
    "metrics-port": "server.metrics_port",
    "http-address": "server.http_port",
    "grpc-address": "server.grpc_port",
    "metrics-address": "server.metrics_port",
}
_LARGEST_INPUT = 2**31 - 1  # bytes; since 25.06 Triton takes 64 MiB unless it is told otherwise
_LIMITS = {"memlock": -1, "stack": 64 * 2**20}  # what NVIDIA's documentation gives the Python backend; bytes
_LOG = {"max-size": "10m", "max-file": "2"}
_GRACE_S = 5.0  # for a create that is under way
LOOK_S = 5
_LOOK_FOR_START_S = 0.005
_LOOK_EVERY_S = 1.0  # the daemon runs `ps` for each look at the processes


@dataclass(frozen=True)
class _Prepared:
    """What is known of the daemon once it was asked."""

    address: Address
    version: str
    info: Mapping[str, Any]
    image: Image
    gpus: list[DeviceRequest]
    packages: Path | None
    path: str


class DockerEngine(SupervisedEngine):
    """One tritonserver container.

    Parameters
    ----------
    spec
        What is served and how.
    folder
        The deployment's own folder. The model repository is its ``models``, which the container mounts read-only.
    key
        The deployment's bearer key.
    why
        Why it was chosen.
    """

    name = "docker"

    def __init__(self, spec: Spec, folder: Path, key: str, why: str = "") -> None:
        super().__init__(spec, folder, key, why)
        self.container = f"tritonnb-{folder.name}"
        self._prepared: _Prepared | None = None
        self._running: tuple[float, list[tuple[int, str, str]] | None] = (0.0, None)
        self._looking = threading.Lock()
        self._reached = False

    def prepare(self, report: Report) -> None:
        """Reach the daemon, pull the image and build its overlay where they are missing; tells how that goes.

        Raises
        ------
        EngineError
            The daemon, the image or a package cannot be had.
        SpecError
            The image's release has no such flag, or ``gpus`` contradicts ``gpu_cores``.
        """
        spec = self._spec
        at = address()
        with docker_client(at) as client:
            sweep(client)
            info = client.info()
            image = local_image(client, spec.server.image) or pull(client, spec.server.image or DEFAULT, report)
            _check_flags(spec, image)
            at = at or Address(client.api.base_url)
            self._prepared = _Prepared(
                address=at,
                version=client.api.api_version,
                info=info,
                image=image,
                gpus=device_requests(spec, info),
                packages=packages_for(client, at.url, image.name, spec.environment.pip, report),
                path=image_path(client, image.name),
            )

    def start(self) -> None:
        """Start the container, published on loopback.

        Raises
        ------
        PortInUseError
            A port that was asked for is taken.
        EngineError
            The daemon or the image cannot be had.
        """
        if not self._prepared:
            self.prepare(lambda _text, _fraction: None)
        prepared = self._prepared
        if prepared is None:
            raise EngineError("The Docker engine could not be prepared.")
        server = self._spec.server
        # Chosen here rather than by the daemon, so that they stay when the container is started again.
        ports = free_ports((server.http_port, server.grpc_port, server.metrics_port))
        http, grpc, metrics = ports
        self.endpoint = Endpoint(
            url=f"http://{HOST}:{http}",
            grpc_url=f"{HOST}:{grpc}",
            metrics_url=f"http://{HOST}:{metrics}/metrics",
            headers={"Authorization": f"Bearer {self._key}"},
        )
        plan = {
            "url": prepared.address.url,
            "name": self.container,
            "body": self._body(prepared, dict(zip((HTTP, GRPC, METRICS), ports, strict=True))),
        }
        # Only this user may read it: the command holds the deployment's key.
        descriptor = os.open(self._folder / PLAN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(plan, file)
        refused = ", ".join(_refused_limits(prepared.address))
        without = f"without the limit {refused}, which the daemon may not set" if refused else ""
        shared = "with this machine's /dev/shm, so that shm_size does not apply" if server.shared_memory else ""
        self._begin_log(f"image {prepared.image.name}", without, shared)
        program = (sys.executable, "-I", "-S", CONTAINER)
        job = Job(
            command=[*program, str(self._folder)],
            environment={},
            log=str(self._log),
            shared_memory_prefix=self._region_prefix,
            owner=None if self._spec.keep else os.getpid(),
            restart=self._spec.restart == "on-failure",
            grace_s=_GRACE_S,
            clean_up=(*program, "--remove", prepared.address.url, self.container, str(self._folder)),
        )
        self._process = SupervisedProcess.start(job, self._folder)
        self._wait_for_start()
        _remember_refused_limits(prepared.address, self._state().limits_refused)

    def _wait_for_start(self) -> None:
        """Wait until the container runs or cannot: a connection made while its network is set up hangs for a second."""
        while self._process and self._process.exit_code() is None and not self._state().started:
            time.sleep(_LOOK_FOR_START_S)

    def attach(self, endpoint: Endpoint) -> None:
        """Take over the container that already runs for this folder."""
        super().attach(endpoint)
        self._reached = True

    @property
    def _region_prefix(self) -> str:
        return f"tritonnb_{self._folder.name}_"

    def _body(self, prepared: _Prepared, ports: Mapping[int, int]) -> dict[str, Any]:
        """Return what the daemon's API is to create."""
        from docker.types import ContainerConfig, HostConfig, LogConfig, Mount, Ulimit  # noqa: PLC0415  (as in daemon.py)

        spec, resources = self._spec, self._spec.resources
        models = str(self._folder / "models")
        own = {"http-max-input-size": str(_LARGEST_INPUT)}
        own |= {"allow-client-shm": "true"} if spec.server.shared_memory else {}  # off by default since 26.04
        own = {flag: value for flag, value in own.items() if knows(prepared.image.release, flag)}
        memory = int(resources.memory_gb * 2**30) if resources.memory_gb else None
        # Under the same paths as here, so that what Triton says of a file is true here too.
        mounted = [models, *([str(prepared.packages)] if prepared.packages else [])]
        host = HostConfig(
            version=prepared.version,
            mounts=[Mount(path, path, type="bind", read_only=True) for path in mounted],
            port_bindings={inside: (HOST, outside) for inside, outside in ports.items()},
            # One of its own, or this machine's, where its clients put their regions.
            shm_size=None if spec.server.shared_memory else spec.server.shm_size,
            ipc_mode="host" if spec.server.shared_memory else None,
            ulimits=[
                Ulimit(name=limit, soft=value, hard=value)
                for limit, value in _LIMITS.items()
                if limit not in _refused_limits(prepared.address)
            ],
            init=True,
            nano_cpus=int(resources.cpu_cores * 1e9) if resources.cpu_cores else None,
            mem_limit=memory,
            memswap_limit=memory,  # the same: no swap beside it
            device_requests=prepared.gpus or None,
            log_config=LogConfig(type="json-file", config=_LOG),  # whatever the daemon's own default is
        )
        variables = {
            # Where NVIDIA's runtime is the daemon's default, its image would be given every GPU without asking.
            **({} if prepared.gpus else {"NVIDIA_VISIBLE_DEVICES": "void"}),
            "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.32 would send usage data to its maker
            **spec.environment.variables,
            **spec.server.env,
        }
        # Triton's stub finds the packages through the Python that is first on PATH.
        ours = str(prepared.packages / "bin") if prepared.packages else ""
        variables["PATH"] = ":".join(filter(None, [ours, variables.get("PATH"), prepared.path]))
        return ContainerConfig(
            prepared.version,
            prepared.image.name,
            ["tritonserver", *options(spec, self._key, models, self._region_prefix, own)],
            user=_user(prepared.info),
            environment=variables,
            ports=[(port, "tcp") for port in ports],
            labels=self._labels(),
            host_config=host,
        )

    def _labels(self) -> dict[str, str]:
        return {
            "tritonnb.deployment": self._spec.name,
            "tritonnb.home": str(home()),
            FOLDER_LABEL: str(self._folder),
            "tritonnb.host": socket.gethostname(),
            "tritonnb.owner": str(os.getpid()),
            "tritonnb.owner-started": str(started(os.getpid())),
            "tritonnb.keep": str(self._spec.keep).lower(),
        }

    def _state(self) -> ContainerState:
        try:
            return ContainerState.of(json.loads((self._folder / STATE).read_text()))
        except FileNotFoundError:  # not yet, or no longer
            return ContainerState()

    def failure(self) -> EngineError | None:
        """Return why the container does not serve, or None while it does."""
        if not self._process:
            return None
        code = self._process.exit_code()
        if code is not None and not self._folder.exists():
            return EngineError(STOPPED_ELSEWHERE)
        state = self._state()
        if code is None:
            return container_failures.trouble(self.container, state) or self._unreachable(state)
        info = self._prepared.info if self._prepared else {}
        return container_failures.end(self.container, self._spec, state, self.logs(), info)

    def _unreachable(self, state: ContainerState) -> EngineError | None:
        """Return why a server that listens cannot be reached: this notebook's loopback is not the daemon's."""
        if self._reached or not (state.started and inside_container() and "Started HTTPService" in self.logs()):
            return None
        port = int(self.endpoint.url.rpartition(":")[2])
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError as error:
            return EngineError(
                f"tritonserver runs, but its port {port} cannot be reached from this notebook: {error.strerror}. "
                "The notebook is in a container itself, with another loopback than the Docker daemon's.",
                hint=f"start the notebook's container with `--network=host`, {OTHERWISE}",
            )
        self._reached = True
        return None

    def _running_stubs(self, model: str, *, fresh: bool) -> Mapping[Any, str] | None:
        with self._looking:
            asked, running = self._running
            if fresh or time.monotonic() - asked > _LOOK_EVERY_S:
                running = self._look()
                self._running = (time.monotonic(), running)
        return None if running is None else {pid: instance for pid, of, instance in running if of == model}

    def _how_died(self, model: str) -> str:
        return " for want of memory" if self._state().oom else super()._how_died(model)

    def _look(self) -> list[tuple[int, str, str]] | None:
        """Return the running stub processes as (number, model, instance); None where nobody can tell."""
        if self._state().paused:
            return None
        # Docker hands these to `ps`; Podman has columns of its own, and no `ps` where the image has none.
        top = self._ask("top?ps_args=-ww%20-eo%20pid,args") or self._ask("top?ps_args=pid,args")
        if top is None:
            return None
        # As in embedded.py. Numbers are given in the order of starts.
        stub = re.compile(rf"triton_python_backend_stub {re.escape(str(self._folder))}/models/([^/]+)/.* (\S+) \S+$")
        found = ((int(row[0]), stub.search(row[-1].strip())) for row in top["Processes"])
        return sorted((pid, hit[1], hit[2]) for pid, hit in found if hit and hit[1] != hit[2])

    def memory_bytes(self) -> int | None:
        """Return what the container takes, without files that can be read again, as ``docker stats`` does."""
        told = (self._ask("stats?stream=false&one-shot=true") or {}).get("memory_stats") or {}
        if "usage" not in told:
            return None
        stats = told.get("stats") or {}
        return int(told["usage"]) - int(stats.get("inactive_file", stats.get("total_inactive_file", 0)))

    def _ask(self, what: str) -> Any:
        """Return what the daemon tells of the container; None where it or its daemon is gone."""
        state = self._state()
        if not state.id or state.away:
            return None
        try:
            plan = json.loads((self._folder / PLAN).read_text())
            return Daemon(plan["url"]).ask("GET", f"/containers/{state.id}/{what}", timeout=LOOK_S)
        except (OSError, http.client.HTTPException, RefusalError):
            return None


def _check_flags(spec: Spec, image: Image) -> None:
    for flag in spec.server.flags:
        if field := _IN_THE_SPEC.get(flag):
            raise SpecError(f"The flag {flag!r} cannot be given to a container.", hint=f"`{field}` of the spec.")
    check_flags(spec.server.flags, image.release)


def _user(info: Mapping[str, Any]) -> str:
    """Return as whom the server runs: as this user, who can read the models."""
    if any("rootless" in option for option in info.get("SecurityOptions") or ()):
        return "0:0"  # which is this user, outside
    return f"{os.getuid()}:{os.getgid()}"


def _refused_limits(at: Address) -> list[str]:
    """Return the limits that the daemon there refused before: each try costs half a second."""
    try:
        return _limits_file(at).read_text().split()
    except FileNotFoundError:
        return []


def _remember_refused_limits(at: Address, refused: Iterable[str]) -> None:
    if refused:
        _limits_file(at).write_text("\n".join({*refused, *_refused_limits(at)}))


def _limits_file(at: Address) -> Path:
    # By its address: Podman's service has another ID at each request.
    return home_folder("cache") / f"docker-limits-refused-{re.sub(r'[^A-Za-z0-9]+', '-', at.url)}"


def sweep(client: DockerClient) -> list[str]:
    """Remove the containers that nobody watches over any more, and return their names.

    Those of this machine and this home whose supervisor is gone; others, whoever's, are not touched.
    """
    from docker.errors import APIError  # noqa: PLC0415

    swept = []
    ours: dict[str, str | list[str] | bool] = {
        "label": [f"tritonnb.home={home()}", f"tritonnb.host={socket.gethostname()}", FOLDER_LABEL]
    }
    for container in client.containers.list(all=True, filters=ours, ignore_removed=True):
        if SupervisedProcess.attach(Path(container.labels[FOLDER_LABEL])):
            continue
        try:
            container.remove(force=True, v=True)
        except APIError:  # somebody else removes it
            continue
        swept.append(container.name or "")
    return swept
