"""``%%triton_model``, ``%%triton_pbtxt`` and ``%%triton_score``: models and entry scripts written in cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from IPython.core.magic import Magics, cell_magic, magics_class

from tritonnb.errors import DeploymentError, UsageError
from tritonnb.magics.parsed import magic, ours

if TYPE_CHECKING:
    import argparse

    from IPython.core.interactiveshell import InteractiveShell

    from tritonnb.client import ModelConfig, ModelMetadata
    from tritonnb.handle import Deployment
    from tritonnb.score import Serving

# The line of the magic itself, so that a line of the file has the number that the notebook shows beside it.
_MAGIC_LINE = "\n"


@magics_class
class CellMagics(Magics):
    """Models and entry scripts written in cells."""

    shell: InteractiveShell  # set by IPython; the base class allows for None

    @cell_magic
    @magic
    def triton_model(self, options: argparse.Namespace, _: object, cell: str) -> ModelMetadata:
        deployment = _target(options.on)
        config = None if options.config is None else _config_text(options.config)
        deployment.write_model(options.model, _MAGIC_LINE + cell, config=config)
        metadata = deployment.metadata(options.model)
        if options.out:
            self.shell.user_ns[options.out] = metadata
        return metadata

    @cell_magic
    @magic
    def triton_pbtxt(self, options: argparse.Namespace, _: object, cell: str) -> ModelConfig | None:
        deployment = _target(options.on)
        if not deployment.write_config(options.model, _MAGIC_LINE + cell):
            print(f"Kept for model {options.model!r}, which has no files yet: `%%triton_model {options.model}`.")  # noqa: T201  (the answer to the command)
            return None
        config = deployment.config(options.model)
        if options.out:
            self.shell.user_ns[options.out] = config
        return config

    @cell_magic
    @magic
    def triton_score(self, options: argparse.Namespace, _: object, cell: str) -> Serving:
        serving = _target(options.name).write_score(
            _MAGIC_LINE + cell,
            pip=options.pip,
            auth=options.auth,
            workers=options.workers,
            threads=options.threads,
            port=options.port,
            timeout_s=options.timeout,
            init_timeout_s=options.init_timeout,
            source_directory=options.source_directory,
        )
        if options.out:
            self.shell.user_ns[options.out] = serving
        return serving


def _target(name: str | None) -> Deployment:
    from tritonnb.handle import deployments  # noqa: PLC0415  (nothing heavy before it is used)

    if not (name or deployments()):
        raise DeploymentError(
            "No deployment runs in this kernel that could serve the cell.",
            hint="deploy first: `%triton_deploy --name NAME` starts a server without models.",
        )
    return ours(name)


def _config_text(given: str) -> str:
    """Return the text of a config.pbtxt that is given as such, or as the name of its file."""
    if any(sign in given for sign in ":{\n"):
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {given} cannot be read: {error}.", hint="give a file, or $text.") from error
