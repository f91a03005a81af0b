"""``%load_ext tritonnb``: the magics themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
)
from traitlets import Enum, Float, Int

from tritonnb.errors import TritonNbError, UsageError, nearest
from tritonnb.magics.options import ENGINES, PARSERS
from tritonnb.magics.overview import Overview
from tritonnb.magics.parsed import magic, ours, served

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from IPython.core.interactiveshell import InteractiveShell

    from tritonnb.client import Health, Logs, Metrics, ModelConfig, ModelList, ModelMetadata, Statistics
    from tritonnb.doctor import Report
    from tritonnb.handle import Connection, Deployment
    from tritonnb.running import Status
    from tritonnb.spec import Spec


T = TypeVar("T")


# Nothing heavy is imported before it is used: `%load_ext tritonnb` must stay quick.
@magics_class
class TritonMagics(Magics):
    """Triton in a notebook. ``%config TritonMagics`` shows the settings, ``%triton_help`` the magics."""

    shell: InteractiveShell  # set by IPython; the base class allows for None

    startup_timeout = Float(300.0, help="Seconds that a deployment may take to become ready.").tag(config=True)
    engine = Enum(ENGINES, "auto", help="What runs the server where nothing else is said.").tag(config=True)
    log_lines = Int(50, help="How many lines of the server's log %triton_logs shows.").tag(config=True)

    # A deployment's life ---------------------------------------------------------------------------------------------

    @line_cell_magic
    @magic
    def triton_deploy(self, options: argparse.Namespace, _: object, cell: str | None = None) -> Deployment:
        from tritonnb.deploying import launch  # noqa: PLC0415

        # On a cell the word on the line is the deployment's name, and what is served stands in the cell.
        name = options.name or (options.source if cell is not None else None)
        source = _spec(options.source, cell) or options.source
        chosen = _spec_options(options) | ({"name": name} if name else {})
        if getattr(source, "engine", "auto") == "auto":
            chosen.setdefault("engine", self.engine)
        timeout = options.timeout or self.startup_timeout
        wait = not (options.no_wait or options.show_output)
        outcome = launch(source, replace=options.replace, wait=wait, timeout=timeout, **chosen)
        deployment = outcome.deployment
        if outcome.reused:
            print(f"Deployment {deployment.name!r} runs already with this spec: reused.")  # noqa: T201
        elif options.show_output:
            try:
                deployment.wait_for_deployment(show_output=True, timeout=timeout)
            except TritonNbError:
                deployment.delete()
                raise
        return self._stored(deployment, options)

    @line_cell_magic
    @magic
    def triton_update(self, options: argparse.Namespace, _: object, cell: str | None = None) -> Deployment:
        deployment = ours(options.on or (options.source if cell is not None else None))
        changes = _spec_options(options)
        if spec := _spec(options.source, cell):
            changes = spec.given() | changes
        elif options.source:
            changes["models"] = options.source
        if not changes:
            raise UsageError("%triton_update: nothing to change.", hint="give a path, an option or a cell.")
        deployment.update(timeout=options.timeout or self.startup_timeout, **changes)
        return self._stored(deployment, options)

    @line_magic
    @magic
    def triton_connect(self, options: argparse.Namespace, _: object) -> Connection:
        from tritonnb.handle import connect  # noqa: PLC0415

        return connect(
            options.url,
            key=options.key,
            name=options.name,
            grpc_url=options.grpc_url,
            metrics_url=options.metrics_url,
        )

    @line_magic
    @magic
    def triton_status(self, *_: object) -> Status:
        from tritonnb.running import status  # noqa: PLC0415

        return status()

    @line_magic
    @magic
    def triton_logs(self, options: argparse.Namespace, _: object) -> Logs:
        return ours(options.on).get_logs(options.lines or self.log_lines)

    @line_magic
    @magic
    def triton_delete(self, options: argparse.Namespace, _: object) -> None:
        from tritonnb.handle import deployments  # noqa: PLC0415

        for doomed in deployments() if options.all else [served(options.name)]:
            doomed.delete()
            print(f"Deployment {doomed.name!r} deleted.")  # noqa: T201  (the answer to the command)

    # The server and its models ----------------------------------------------------------------------------------------

    @line_magic
    @magic
    def triton_health(self, options: argparse.Namespace, _: object) -> Health:
        return served(options.on).health()

    @line_magic
    @magic
    def triton_models(self, options: argparse.Namespace, _: object) -> ModelList:
        return served(options.on).models()

    @line_magic
    @magic
    def triton_metadata(self, options: argparse.Namespace, _: object) -> ModelMetadata:
        return served(options.on).metadata(options.model, options.model_version)

    @line_magic
    @magic
    def triton_config(self, options: argparse.Namespace, _: object) -> ModelConfig | None:
        config = served(options.on).config(options.model, options.model_version)
        if not options.pbtxt:
            return config
        from tritonnb.repository import pbtxt  # noqa: PLC0415

        print(pbtxt.to_text(pbtxt.from_json(config)), end="")  # noqa: T201  (a file's text, to be copied)
        return None

    @line_magic
    @magic
    def triton_statistics(self, options: argparse.Namespace, _: object) -> Statistics:
        return served(options.on).statistics(options.model, options.model_version)

    @line_magic
    @magic
    def triton_metrics(self, options: argparse.Namespace, _: object) -> Metrics:
        metrics = served(options.on).metrics()
        return metrics.matching(options.pattern) if options.pattern else metrics

    @line_magic
    @magic
    def triton_load(self, options: argparse.Namespace, _: object) -> ModelList:
        if not options.models:
            ours(options.on).reload()
        handle = served(options.on)
        for model in options.models:
            handle.load(model)
        return handle.models()

    @line_magic
    @magic
    def triton_unload(self, options: argparse.Namespace, _: object) -> None:
        for model in options.models:
            served(options.on).unload(model, dependents=options.dependents)
            print(f"Model {model!r} unloaded.")  # noqa: T201  (its state says UNLOADING for a moment more)

    @line_magic
    @magic
    def triton_infer(self, options: argparse.Namespace, namespace: Mapping[str, Any]) -> object:
        from tritonnb.magics.inference import infer  # noqa: PLC0415  (only who infers needs it)

        return self._stored(infer(options, namespace), options)

    # Help ------------------------------------------------------------------------------------------------------------

    @line_magic
    @magic
    def triton_doctor(self, *_: object) -> Report:
        from tritonnb.doctor import examine  # noqa: PLC0415

        return examine()

    @line_magic
    @magic
    def triton_help(self, options: argparse.Namespace, _: object) -> Overview | None:
        if not options.verb:
            return Overview.of_all()
        verb = f"triton_{options.verb.lstrip('%').removeprefix('triton_')}"
        if verb not in PARSERS:
            raise UsageError(f"%triton_help: there is no magic %{verb}.", hint=nearest(verb, PARSERS))
        PARSERS[verb].print_help()
        return None

    def _stored(self, result: T, options: argparse.Namespace) -> T:
        if options.out:
            self.shell.user_ns[options.out] = result
        return result


def _spec(source: str | None, cell: str | None) -> Spec | None:
    """Return the spec that a cell or a file holds; None where a path to models is given."""
    from tritonnb.spec import Spec  # noqa: PLC0415

    if cell is not None:
        return Spec.from_yaml(cell)
    return Spec.from_file(source) if source and source.endswith((".yaml", ".yml")) else None


def _spec_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the spec's fields that the options of a line set."""
    fields = {name: getattr(options, name) for name in ("engine", "gpus", "auth", "keep", "restart")}
    resources = {"cpu_cores": options.cpu_cores, "memory_gb": options.memory_gb}
    server = {"http_port": options.port, "image": options.image, "shm_size": options.shm_size}
    score = {
        "entry_script": options.entry_script,
        "source_directory": options.source_directory,
        "workers": options.workers,
        "port": options.score_port,
    }
    environment = {"pip": options.pip, "variables": options.env and dict(map(_variable, options.env))}
    sections = {"resources": resources, "server": server, "environment": environment, "score": score}
    for section, keys in sections.items():
        fields[section] = {key: value for key, value in keys.items() if value is not None} or None
    return {name: value for name, value in fields.items() if value is not None}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--env {text}: a variable is NAME=VALUE.", hint=f"write `--env {name}=...`.")
    return name, value
