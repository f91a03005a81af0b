"""The dashboard in JupyterLab 4 and Notebook 7, before a real browser. What is asserted is the page's text."""

from __future__ import annotations

import re

import psutil
import pytest
from browser import DARK, chromium, jupyter, new_page, open_notebook, run_all, write_notebook

from tritonnb import samples
from tritonnb.client.pictures import SCALINGS

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
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = new_page(browser)
    yield page
    page.close()


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


@pytest.fixture
def labelled(folder):
    """Lay out a real classifier with its labels; return the spec's YAML, and the folder of a picture."""
    samples.lay_out(folder / "sample")
    model = folder / "sample" / "triton" / samples.MODEL_NAME
    (model / "labels.txt").write_text("\n".join(samples.labels()))
    samples.picture("chelsea").save(folder / "cat.png")
    return f"""
models:
  classifier:
    path: {model.relative_to(folder)}
    max_batch_size: 4
    input: [{{name: data_0, data_type: TYPE_FP32, dims: [3, 224, 224]}}]
    output: [{{name: fc6_1, data_type: TYPE_FP32, dims: [1000], label_filename: labels.txt}}]
engine: embedded
"""


def test_a_picture_is_named_and_a_sweep_is_stopped_half_way_while_a_cell_is_busy(page, address, folder, labelled):
    write_notebook(
        folder / "busy.ipynb",
        "import time\n%load_ext tritonnb",
        f"%%triton_deploy busy{labelled}",
        "%triton_dashboard",
        "while not __import__('os').path.exists('done'): time.sleep(0.1)",
    )
    open_notebook(page, address, "busy.ipynb", "lab")
    run_all(page)
    page.get_by_text("● READY").first.wait_for()

    tab(page, "Playground")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a picture").click()
    chooser.value.set_files(folder / "cat.png")
    page.get_by_role("button", name="Choose a picture (1)").wait_for()
    page.get_by_label("Scaling").select_option(f"inception: {SCALINGS['inception']}")
    page.get_by_label("Classes").fill("3")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Egyptian cat").first.wait_for()

    tab(page, "Batch latency")
    page.get_by_label("Seconds").fill("600")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Measured classifier: 1 point").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("Stopped.").first.wait_for()
    page.get_by_role("link", name="classifier.csv").wait_for()
    assert page.locator(".jp-InputPrompt").filter(has_text="[*]").count() == 1  # the cell is busy still
    (folder / "done").touch()
    page.locator(".jp-InputPrompt").filter(has_text="[4]").wait_for()
    shut_down_kernels(page, address)


def test_it_is_there_after_a_reload_of_the_page_and_gone_after_a_restart_of_the_kernel(opened):
    page = opened
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Save Notebook")).first.click()
    page.reload()
    page.get_by_text("● READY").first.wait_for()
    page.get_by_role("button", name="Unload").click()
    page.get_by_text("■ UNAVAILABLE").first.wait_for()
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Restart Kernel and Clear")).click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.get_by_text("■ UNAVAILABLE").first.wait_for(state="detached")
    run_all(page)
    page.get_by_text("● READY").first.wait_for()


def test_in_the_dark_its_words_have_the_dark_themes_colours(folder, page):
    dark = folder.parent / "dark"
    dark.mkdir()
    (dark / "square.onnx").write_bytes((folder / "square.onnx").read_bytes())
    write_notebook(dark / "dark.ipynb", DEPLOY.format(name="dark"), "%triton_dashboard")
    with jupyter(dark, DARK) as address:
        open_notebook(page, address, "dark.ipynb", "lab")
        assert page.evaluate("document.body.dataset.jpThemeName") == DARK
        run_all(page)
        page.get_by_text("● READY").first.wait_for()
        colour = "element => getComputedStyle(element).color"
        assert page.locator(".tnb-ok").first.evaluate(colour) == "rgb(79, 196, 106)"
        red, green, blue = map(int, re.findall(r"\d+", page.locator(".tnb td").last.evaluate(colour))[:3])
        assert min(red, green, blue) > 150  # light words
        shut_down_kernels(page, address)


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
