"""``%triton_dashboard``: a deployment, seen live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.magic import Magics, line_magic, magics_class

from tritonnb.magics.parsed import magic, served

if TYPE_CHECKING:
    import argparse

    from IPython.core.interactiveshell import InteractiveShell

    from tritonnb.widgets.board import Dashboard
    from tritonnb.widgets.look import Look


@magics_class
class DashboardMagics(Magics):
    """What is seen live."""

    shell: InteractiveShell  # set by IPython; the base class allows for None

    @line_magic
    @magic
    def triton_dashboard(self, options: argparse.Namespace, _: object) -> Dashboard | Look:
        from tritonnb.widgets import dashboard  # noqa: PLC0415  (ipywidgets)

        shown = dashboard(served(options.name), options.part or ())
        if options.out:
            self.shell.user_ns[options.out] = shown
        return shown
