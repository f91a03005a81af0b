"""``deploy()``: from a path, a spec or a model in memory to a running tritonserver."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb import records
from tritonnb.engines import of_docker_alone
from tritonnb.errors import DeploymentError, Interrupted, SpecError, TritonNbError
from tritonnb.handle import Connection, Deployment, deployment, deployments
from tritonnb.handle.run import Run, new_key
from tritonnb.registry import RegisteredModel, in_words_of_a_spec, located, pinned
from tritonnb.render.progress import Progress
from tritonnb.repository import Model, in_memory, models_of
from tritonnb.spec import Spec
from tritonnb.spec_sections import Kubernetes

if TYPE_CHECKING:
    from tritonnb.handle import Served

#: How long `find` waits for a server that another process may still be starting, in seconds.
ATTACH_WITHIN_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """What came of a deploy.

    Parameters
    ----------
    deployment
        The handle.
    reused
        Whether it ran already, with the same spec.
    """

    deployment: Deployment
    reused: bool


def deploy(
    source: object = None,
    *,
    replace: bool = False,
    overwrite: bool = False,
    wait: bool = True,
    timeout: float | None = 300,
    **options: Any,
) -> Deployment:
    """Serve models with a real tritonserver and return the handle on it.

    A deployment of this name and with the same spec that runs already is reused: its sources are staged again and
    changed models loaded. One that has failed, or does not answer within five seconds, is replaced by a new one.

    Parameters
    ----------
    source
        What to serve: a path (an ``.onnx`` file, a model's directory, a model repository, the article's ``models``
        folder), a spec's ``.yaml`` file, a `Spec`, a registered model or its ``NAME`` (the latest version) or
        ``NAME:VERSION``, or an ``onnx.ModelProto`` or its bytes; a list of paths and registered models, or a mapping
        with names for them. Without one, but with a ``name``, it begins without models, for
        `Deployment.write_model`.
    replace
        Where a deployment of this name runs with another spec, replace it; without, that is an error.
    overwrite
        Azure ML's word for ``replace``.
    wait
        Return when it is ready; else at once, for `Deployment.wait_for_deployment` later.
    timeout
        How long to wait, in seconds.
    **options
        The spec's fields by name: ``name``, ``engine``, ``auth``, ``keep``, ``server={"http_port": 8000}`` and so on.

    Raises
    ------
    SpecError, RepositoryError, RegistryError
        What was given cannot be served.
    EngineError
        The engine cannot be had or its server did not start.
    DeploymentError
        No model could be loaded, the time ran out, or the name is taken.
    Interrupted
        Ctrl-C; what was begun is stopped.
    """
    return launch(source, replace=replace or overwrite, wait=wait, timeout=timeout, **options).deployment


def launch(
    source: object = None, *, replace: bool = False, wait: bool = True, timeout: float | None = 300, **options: Any
) -> Outcome:
    """Do what `deploy` does and tell what came of it."""
    spec, memory = _what(source, options)
    spec = pinned(spec)
    _check_served(spec)
    # A name of its own says that it is meant: a deployment for models that are written in cells.
    nameless = not options.get("name") and spec.name == Spec.from_options().name
    if not memory and not models_of(located(spec)) and nameless:
        raise SpecError(
            "The spec names no models.",
            hint="give `models: PATH`, or a path to `%triton_deploy`; with a `name` alone it begins without models.",
        )
    records.sweep()
    with Progress(f"Deploying {spec.name!r}") as progress:
        run = Run(spec, records.new_folder(spec.name), new_key(), memory)
        reused = handle = None
        try:
            run.engine.prepare(progress.report)
            run.script.prepare(spec, progress.report)
            progress.report("waiting for whoever else works on this name", None)
            with records.name_lock(spec.name, progress.tick):
                records.wait_for_ends(spec.name, progress.tick)
                reused = _reusable(run, replace=replace)
                if not reused:
                    run.launch()
            progress.report("loading the models", None)
            handle = reused or Deployment(run)
            if wait:
                handle.settle(timeout, progress.tick)
            if reused and handle.state != "starting":
                handle.follow_sources()
        except BaseException as error:
            run.end()
            if handle and not reused:
                handle.delete()
            if isinstance(error, KeyboardInterrupt):
                left = "runs on as before" if reused else "was stopped; nothing of it is left"
                raise Interrupted(f"deployment {spec.name!r} {left}.") from None
            raise
    return Outcome(handle, reused=bool(reused))


def _what(source: object, options: dict[str, Any]) -> tuple[Spec, tuple[Model, ...]]:
    """Return the spec that is meant, and the model where it is one in memory."""
    if options.get("models"):
        options["models"] = in_words_of_a_spec(options["models"])
    if source is None:
        return Spec.from_options(**options), ()
    if isinstance(source, Spec):
        return source.replace(**options), ()
    if isinstance(source, str | os.PathLike | RegisteredModel | list | tuple | Mapping):
        if isinstance(source, str | os.PathLike) and os.fspath(source).endswith((".yaml", ".yml")):
            return Spec.from_file(source).replace(**options), ()
        return Spec.from_options(models=in_words_of_a_spec(source), **options), ()
    spec = Spec.from_options(**{"name": "model", **options})
    return spec, (in_memory(source, spec.name),)


def _check_served(spec: Spec) -> None:
    """Say plainly which fields of the spec no engine of this release serves yet, or not the one that it names."""
    unserved = ["kubernetes"] if spec.kubernetes != Kubernetes() else []
    if spec.engine == "kubernetes":
        unserved.insert(0, "engine: kubernetes")
    if unserved:
        raise SpecError(
            f"This release of tritonnb does not serve these fields of the spec yet: {', '.join(unserved)}.",
            hint="it has the embedded and the Docker engine; leave them out.",
        )
    if spec.engine == "embedded" and (fields := of_docker_alone(spec)):
        raise SpecError(
            f"The embedded engine runs on this machine's CPU, without a container: {', '.join(fields)} cannot be had.",
            hint="leave it out, or take `engine: docker` (`--engine docker`).",
        )


def _reusable(run: Run, *, replace: bool) -> Deployment | None:
    """Return the deployment of this name to use instead of a new one; one that is in the way is deleted or an error."""
    name = run.spec.name
    handle = next((d for d in deployments() if d.name == name), None)
    if isinstance(handle, Connection):
        raise DeploymentError(f"{name!r} is a connection of this kernel.", hint="choose another name, or delete it.")
    if isinstance(handle, Deployment) and handle.state in {"failed", "stopped"}:
        handle.delete()
        handle = None
    record = records.record_of(name)
    if record is None:
        return None
    if not (record.of_this_process or record.keep):
        raise DeploymentError(
            f"A deployment {name!r} runs in another notebook (process {record.owner}).",
            hint=f"choose another name, `tritonnb stop {name}`, or deploy it there with `keep` to share it.",
        )
    running = Spec.from_yaml(record.spec)
    same = running == run.spec and not run.memory
    if not (same or replace):
        raise DeploymentError(
            f"A deployment {name!r} runs already with another spec:\n{_difference(running, run.spec)}",
            hint="replace it with `replace=True` (`--replace`), or choose another name.",
        )
    deployment = handle if isinstance(handle, Deployment) else Deployment.attach(record)
    if same and deployment.answers():
        return deployment
    deployment.delete()
    return None


def _difference(running: Spec, asked: Spec) -> str:
    lines = difflib.unified_diff(
        running.to_yaml().splitlines(), asked.to_yaml().splitlines(), "running", "asked for", lineterm="", n=1
    )
    here = f"{Path.cwd()}{os.sep}"  # a spec's paths are absolute; people know theirs from where they are
    return "\n".join(f"  {line.replace(here, '')}" for line in lines) or "  (another model in memory)"


def find(name: str) -> Served:
    """Return the deployment of this name: this kernel's, or one that is kept.

    Raises
    ------
    DeploymentError
        There is none.
    """
    handle = next((d for d in deployments() if d.name == name), None)
    if handle and handle.state != "failed":
        return handle
    record = records.record_of(name)  # where this kernel's has failed, another may have taken its place
    if not record:
        return handle or deployment(name)
    found = Deployment.attach(record)
    with contextlib.suppress(TritonNbError):  # one that has failed is found too: to look at it, or to delete it
        found.settle(ATTACH_WITHIN_S, lambda: None)
    return found
