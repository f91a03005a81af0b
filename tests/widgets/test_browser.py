"""The dashboard in JupyterLab 4 and Notebook 7, before a real browser. What is asserted is the page's text."""

from __future__ import annotations

import psutil
import pytest
from browser import chromium, jupyter, open_notebook, run_all, write_notebook

pytestmark = [pytest.mark.requires("engine", "browser"), pytest.mark.timeout(180)]

WITHIN_TWO_LOOKS = 3_000  # two seconds and the time that a page takes
DEPLOY = """
import numpy as np, tritonnb as tn
%load_ext tritonnb
%triton_deploy square.onnx --name {name} --engine embedded
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, square):
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "square.onnx").write_bytes(square)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with jupyter(folder) as address:
        yield address


@pytest.fixture(scope="module")
def page():
    with chromium() as page:
        yield page


@pytest.fixture(autouse=True)
def numbers_are_shown(monkeypatch):
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")


@pytest.fixture(params=["lab", "notebook"])
def opened(request, page, address, folder):
    """Open a notebook whose dashboard shows a deployment named after the front end; delete it in the end."""
    name = f"in-{request.param}"
    write_notebook(folder / f"{name}.ipynb", DEPLOY.format(name=name), "%triton_dashboard")
    open_notebook(page, address, f"{name}.ipynb", request.param)
    run_all(page)
    page.get_by_text("● READY").first.wait_for()
    yield page
    page.goto("about:blank")
    shut_down_kernels(page, address)


def shut_down_kernels(page, address):
    for kernel in page.request.get(f"{address}/api/kernels").json():
        page.request.delete(f"{address}/api/kernels/{kernel['id']}")


def tab(page, name):
    page.locator(".jupyter-widget-tab .lm-TabBar-tab, .widget-tab .lm-TabBar-tab").filter(has_text=name).first.click()


def stubs_of(name):
    """Return the processes of the models of a deployment."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (words := process.info["cmdline"])
        and "triton_python_backend_stub" in words[0]
        and any(name in w for w in words)
    ]


def test_a_person_sees_health_models_and_log_and_can_act(opened):
    page = opened
    tab(page, "Models")
    page.get_by_text("%triton_infer square x=$x").wait_for()
    tab(page, "Logs")
    page.locator(".tnb-log").filter(has_text="server.cc").wait_for()
    tab(page, "Health")
    page.get_by_role("button", name="Unload").click()
    page.get_by_text("■ UNAVAILABLE").first.wait_for()
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_text("● READY").first.wait_for()


def test_a_lost_process_shows_as_degraded_and_is_mended_by_a_button(opened):
    page = opened
    name = "in-lab" if "/lab/" in page.url else "in-notebook"
    lost = stubs_of(name)
    assert lost
    for process in lost:
        process.kill()
    page.get_by_text("▲ degraded").first.wait_for(timeout=WITHIN_TWO_LOOKS)
    page.get_by_role("button", name="Load", exact=True).click()
    page.get_by_text("● ready").first.wait_for()
