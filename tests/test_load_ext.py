"""``%load_ext tritonnb`` is quick because it imports nothing heavy: the time itself is measured by ``make bench``."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "pydantic", "tritonclient", "docker", "matplotlib", "jinja2", "google.protobuf", "grpc")

LOAD = """
import sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "tritonnb")
print(*sorted(set(sys.modules) - before))
"""


def modules_imported_by(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_loading_the_extension_imports_nothing_heavy():
    imported = modules_imported_by(LOAD)
    assert "tritonnb.magics" in imported
    assert not imported & set(HEAVY)


def test_importing_the_package_imports_nothing_heavy():
    imported = modules_imported_by("import tritonnb, sys; print(*sys.modules)")
    assert "tritonnb" in imported
    assert not imported & set(HEAVY)


def test_unloading_the_extension_takes_its_magics_away():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.history_manager.enabled = False
    shell.run_line_magic("load_ext", "tritonnb")
    assert shell.find_line_magic("triton_deploy")
    assert shell.find_cell_magic("triton_deploy")
    shell.run_line_magic("unload_ext", "tritonnb")
    assert not shell.find_line_magic("triton_deploy")
    assert not shell.find_cell_magic("triton_deploy")
