"""``%load_ext tritonnb``: the magics themselves."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from traitlets import Float

from tritonnb.errors import DeploymentError, Interrupted, UsageError
from tritonnb.magics.options import PARSERS
from tritonnb.magics.parser import HelpShown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from IPython.core.interactiveshell import InteractiveShell

    from tritonnb.client import Health, InferResult, ModelMetadata
    from tritonnb.handle import Deployment, Served


def _magic(method: Callable[..., Any]) -> Callable[..., Any]:
    """Parse the line before the method sees it, answer ``--help``, and give the method its help for ``?``."""
    parser = PARSERS[method.__name__]

    @functools.wraps(method)
    def magic(
        self: TritonMagics, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None
    ) -> object:
        namespace = {**self.shell.user_ns, **(local_ns or {})}
        try:
            options = parser.parse(line, namespace)
        except HelpShown:
            return None
        try:
            return method(self, options, namespace, *([] if cell is None else [cell]))
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted(f"{parser.prog} was given up; deployments go on.") from None

    magic.__doc__ = parser.format_help()
    return no_var_expand(needs_local_scope(magic))


@magics_class
class TritonMagics(Magics):
    """Triton in a notebook. ``%config TritonMagics`` shows the settings."""

    shell: InteractiveShell  # set by IPython; the base class allows for None

    startup_timeout = Float(300.0, help="Seconds that %triton_deploy waits for a deployment to be ready.").tag(
        config=True
    )

    @line_cell_magic
    @_magic
    def triton_deploy(self, options: argparse.Namespace, _: object, cell: str | None = None) -> Deployment:
        from tritonnb.deploying import deploy  # noqa: PLC0415  (all below: nothing heavy before it is used)
        from tritonnb.spec import Spec  # noqa: PLC0415

        # On a cell the word on the line is the deployment's name, and what is served stands in the cell.
        source = options.source if cell is None else Spec.from_yaml(cell)
        chosen = {
            "name": options.name or (options.source if cell is not None else None),
            "engine": options.engine,
            "auth": options.auth,
            "server": {"http_port": options.port} if options.port else None,
        }
        deployment = deploy(
            source,
            replace=options.replace,
            timeout=options.timeout or self.startup_timeout,
            **{name: value for name, value in chosen.items() if value is not None},
        )
        if options.out:
            self.shell.user_ns[options.out] = deployment
        return deployment

    @line_magic
    @_magic
    def triton_infer(self, options: argparse.Namespace, namespace: Mapping[str, Any]) -> InferResult:
        inputs = dict(pair.resolve(namespace) for pair in options.inputs)
        return _deployment(options).infer(
            options.model,
            {name: _literal(value) for name, value in inputs.items()},
            outputs=options.outputs.split(",") if options.outputs else None,
            version=options.model_version,
            request_id=options.request_id,
        )

    @line_magic
    @_magic
    def triton_health(self, options: argparse.Namespace, _: object) -> Health:
        return _deployment(options).health()

    @line_magic
    @_magic
    def triton_metadata(self, options: argparse.Namespace, _: object) -> ModelMetadata:
        return _deployment(options).metadata(options.model, options.model_version)

    @line_magic
    @_magic
    def triton_logs(self, options: argparse.Namespace, _: object) -> None:
        print(_ours(options).get_logs(options.lines))  # noqa: T201  (text to read, not a value)

    @line_magic
    @_magic
    def triton_delete(self, options: argparse.Namespace, _: object) -> None:
        from tritonnb.handle import deployment, deployments  # noqa: PLC0415

        for doomed in deployments() if options.all else [deployment(options.name)]:
            doomed.delete()
            print(f"Deployment {doomed.name!r} deleted.")  # noqa: T201  (the answer to the command)


def _deployment(options: argparse.Namespace) -> Served:
    from tritonnb.handle import deployment  # noqa: PLC0415

    return deployment(options.on)


def _ours(options: argparse.Namespace) -> Deployment:
    from tritonnb.handle import Deployment  # noqa: PLC0415

    found = _deployment(options)
    if not isinstance(found, Deployment):
        raise DeploymentError(f"{found.name!r} is a connection: its server is run by somebody else, who has its log.")
    return found


def _literal(value: object) -> object:
    """Return what the text of ``input=text`` stands for: JSON, such as ``[[1, 2]]`` or ``3.5``."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise UsageError(
            f"{value!r} is neither $name nor JSON.",
            hint="for a text write it in JSON's quotes: '[\"some text\"]'.",
        ) from None
