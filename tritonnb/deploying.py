"""``deploy()``: from a path, a spec or a model in memory to a running tritonserver."""

from __future__ import annotations

import os
import secrets
from typing import Any

from tritonnb.engines import EmbeddedEngine
from tritonnb.environments import engine_environment
from tritonnb.errors import DeploymentError, Interrupted, SpecError
from tritonnb.handle import Deployment, deployments
from tritonnb.home import home_folder
from tritonnb.render.progress import Progress
from tritonnb.repository import Model, in_memory, models_of
from tritonnb.spec import Spec


def deploy(
    source: object = None,
    *,
    replace: bool = False,
    wait: bool = True,
    timeout: float | None = 300,
    **options: Any,
) -> Deployment:
    """Serve models with a real tritonserver and return the handle on it.

    Parameters
    ----------
    source
        What to serve: a path (an ``.onnx`` file, a model's directory, a model repository, the article's ``models``
        folder), a spec's ``.yaml`` file, a `Spec`, or an ``onnx.ModelProto`` or its bytes.
    replace
        Delete the deployment of this name that runs already; without it, that is an error.
    wait
        Return when it is ready; else at once, for `Deployment.wait_for_deployment` later.
    timeout
        How long to wait, in seconds.
    **options
        The spec's fields by name: ``name``, ``engine``, ``auth``, ``server={"http_port": 8000}`` and so on.

    Raises
    ------
    SpecError, RepositoryError
        What was given cannot be served.
    EngineError
        The engine cannot be had or its server did not start.
    DeploymentError
        No model could be loaded, or the time ran out.
    Interrupted
        Ctrl-C; what was begun is stopped.
    """
    spec, models = _what(source, options)
    _check_served(spec)
    _make_room(spec.name, replace=replace)
    with Progress(f"Deploying {spec.name!r}") as progress:
        try:
            environment = engine_environment(progress.report)
        except KeyboardInterrupt:
            raise Interrupted("the engine was not built; nothing is left of it.") from None
        folder = home_folder("deployments") / f"{spec.name}-{secrets.token_hex(4)}"
        key = secrets.token_urlsafe(32)
        server = spec.server
        engine = EmbeddedEngine(
            environment,
            folder,
            key=key,
            auth=spec.auth,
            ports=(server.http_port, server.grpc_port, server.metrics_port),
            flags=server.flags,
            variables=server.env,
        )
        deployment = Deployment(spec, models, engine, folder, key)
        if wait:
            progress.report(f"loading {len(models)} model{'s' * (len(models) != 1)}", None)
            try:
                deployment.settle(timeout, progress.tick)
            except KeyboardInterrupt:
                deployment.delete()
                raise Interrupted(f"deployment {spec.name!r} was stopped; nothing of it is left.") from None
            except BaseException:
                deployment.delete()
                raise
    return deployment


def _what(source: object, options: dict[str, Any]) -> tuple[Spec, tuple[Model, ...]]:
    """Return the spec that is meant, and the models found at its sources."""
    if source is None or isinstance(source, Spec):
        spec = source.replace(**options) if source else Spec.from_options(**options)
    elif isinstance(source, str | os.PathLike):
        written = os.fspath(source).endswith((".yaml", ".yml"))
        spec = Spec.from_file(source).replace(**options) if written else Spec.from_options(models=source, **options)
    else:
        spec = Spec.from_options(**{"name": "model", **options})
        return spec, (in_memory(source, spec.name),)
    models = models_of(spec)
    if not models:
        raise SpecError("The spec names no models.", hint="give `models: PATH`, or a path to `%triton_deploy`.")
    return spec, models


def _check_served(spec: Spec) -> None:
    """Say plainly which fields of the spec this release does not serve yet, rather than pass them over."""
    plain = Spec(name=spec.name, models=spec.models)
    waiting = ("gpus", "resources", "keep", "restart", "environment", "score", "kubernetes")
    unserved = [field for field in waiting if getattr(spec, field) != getattr(plain, field)]
    of_server = ("image", "shm_size", "shared_memory")
    unserved += [f"server.{key}" for key in of_server if getattr(spec.server, key) != getattr(plain.server, key)]
    if spec.engine not in {"auto", "embedded"}:
        unserved.insert(0, f"engine: {spec.engine}")
    if unserved:
        raise SpecError(
            f"This release of tritonnb does not serve these fields of the spec yet: {', '.join(unserved)}.",
            hint="it has the embedded engine, without GPU and entry script; leave them out.",
        )


def _make_room(name: str, *, replace: bool) -> None:
    running = next((d for d in deployments() if d.name == name), None)
    if not running:
        return
    if running.state in {"failed", "stopped"} or replace:
        running.delete()
    else:
        raise DeploymentError(
            f"A deployment {name!r} is already {running.state}.",
            hint="replace it with `replace=True` (`--replace`), or choose another name.",
        )
