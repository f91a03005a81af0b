"""``%triton_register`` and ``%triton_registered``: the registry of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class

from tritonnb.errors import UsageError
from tritonnb.magics.parsed import magic

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from IPython.core.interactiveshell import InteractiveShell

    from tritonnb.registry import RegisteredModel, RegisteredModels


# Nothing heavy is imported before it is used: `%load_ext tritonnb` must stay quick.
@magics_class
class RegistryMagics(Magics):
    """The registry of models."""

    shell: InteractiveShell  # set by IPython; the base class allows for None

    @line_magic
    @magic
    def triton_register(self, options: argparse.Namespace, namespace: Mapping[str, Any]) -> RegisteredModel:
        from tritonnb.registry import register  # noqa: PLC0415

        sample = dict(given.resolve(namespace) for given in options.sample_input or ())
        model = register(
            options.source,
            options.registered,
            options.version,
            tags=options.tag,
            description=options.description,
            framework=options.framework,
            sample_input=sample or None,
        )
        if options.out:
            self.shell.user_ns[options.out] = model
        return model

    @line_magic
    @magic
    def triton_registered(self, options: argparse.Namespace, _: object) -> RegisteredModels | RegisteredModel | None:
        from tritonnb.registry import registered  # noqa: PLC0415

        one = ":" in (options.registered or "")
        if options.delete and not one:
            raise UsageError(
                "%triton_registered: --delete needs a version.", hint="name one version, such as classifier:1."
            )
        found = registered(options.registered, options.tag)
        if options.delete:
            for model in found:
                model.delete()
                print(f"Registered model {model.id!r} deleted.")  # noqa: T201  (the answer to the command)
            return None
        shown = found[0] if one and found else found
        if options.out:
            self.shell.user_ns[options.out] = shown
        return shown
