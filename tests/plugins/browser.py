"""A real browser before a real Jupyter: Debian's chromium through playwright, JupyterLab 4 and Notebook 7."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import nbformat

if TYPE_CHECKING:
    from pathlib import Path

LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
UP_WITHIN_S = 60.0
#: Where each front end opens a notebook.
PATHS = {"lab": "lab/tree", "notebook": "notebooks"}


def why_no_browser() -> str:
    """Return why no notebook can be opened in a browser here, empty where one can."""
    if not shutil.which("chromium"):
        return "chromium is not installed (Debian: apt-get install chromium)"
    missing = [package for package in ("playwright", "jupyterlab", "notebook") if not importlib.util.find_spec(package)]
    return f"{', '.join(missing)} is not installed (pip)" if missing else ""


@contextmanager
def jupyter(folder: Path, theme: str = LIGHT):
    """Run a Jupyter server over a folder with settings of its own; yield its address."""
    own = folder.parent / f"{folder.name}-jupyter"
    settings = own / "lab-settings"
    settings.mkdir(parents=True)
    overrides = {
        "@jupyterlab/apputils-extension:themes": {"theme": theme},
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    }
    # JupyterLab reads it beside its own files, which belong to the environment; a copy of their folder is too much.
    for name in ("@jupyterlab/apputils-extension/themes", "@jupyterlab/apputils-extension/notification"):
        key = name.replace("/themes", ":themes").replace("/notification", ":notification")
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(overrides[key]))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        **{f"JUPYTER_{kind}_DIR": str(own / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")},
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
        "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    log = own / "jupyter.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder
        )
    try:
        deadline = time.monotonic() + UP_WITHIN_S
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Jupyter did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@contextmanager
def chromium():
    """Run a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), headless=True, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser):
    """Open a page that shares nothing with others."""
    page = browser.new_page(viewport={"width": 1280, "height": 1100})
    page.set_default_timeout(30_000)
    return page


def write_notebook(path: Path, *cells: str) -> None:
    """Write a notebook of code cells."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, path)


def open_notebook(page, address: str, name: str, front_end: str) -> None:
    """Open a notebook and wait until its kernel is there."""
    # JupyterLab would show the notebooks that were open before as well.
    page.goto(f"{address}/{PATHS[front_end]}/{name}{'?reset' * (front_end == 'lab')}")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached")


def run_all(page) -> None:
    """Run every cell, as a person would with the menu; again, if the page was not ready for it."""
    from playwright.sync_api import TimeoutError as NotYet

    for _ in range(5):
        page.locator(".jp-Notebook .jp-Cell").first.click()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with suppress(NotYet):
            page.locator(".jp-InputPrompt").filter(has_text=re.compile(r"\[(\*|\d+)\]")).first.wait_for(timeout=5_000)
            return
    raise AssertionError("the notebook did not run")


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=1) as response:
            return response.status == 200
    except OSError:
        return False
