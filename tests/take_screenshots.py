"""Take a picture of every panel of the dashboard, in the light and in the dark: ``make screenshots``.

A real browser opens the dashboard in JupyterLab over a real server that answers requests, and does what a person would:
sends a picture in the playground, measures a batch latency. Whoever changes how something looks looks at them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "plugins"))  # as pytest's configuration has it
from browser import DARK, LIGHT, chromium, jupyter, new_page, open_notebook, run_all, why_no_browser, write_notebook

from tritonnb.client.pictures import SCALINGS

PANELS = ("Health", "Models", "Batch latency", "Playground", "Logs")
CELLS = (
    """
import threading, time
from pathlib import Path
import tritonnb as tn
from tritonnb import samples
%load_ext tritonnb
samples.lay_out("models")
_ = Path("models/triton/efficientnet_lite0/labels.txt").write_text("\\n".join(samples.labels()))
samples.picture("chelsea").save("cat.png")
""",
    """%%triton_deploy vision
models:
  classifier:
    path: models/triton/efficientnet_lite0
    max_batch_size: 4
    input: [{name: data_0, data_type: TYPE_FP32, dims: [3, 224, 224]}]
    output: [{name: fc6_1, data_type: TYPE_FP32, dims: [1000], label_filename: labels.txt}]
engine: embedded
""",
    """
vision = tn.deployment("vision")
def ask():
    while True:
        vision.infer("classifier", {"data_0": samples.picture("chelsea")}, scaling="inception")
        time.sleep(0.05)
threading.Thread(target=ask, daemon=True).start()
""",
    "%triton_dashboard",
)
TRAFFIC_MS = 20_000  # so that the chart of the last minutes is one


def take(folder: Path, theme: str) -> None:
    """Take a picture of every panel in one theme."""
    name = "dark" if theme == DARK else "light"
    with tempfile.TemporaryDirectory() as temporary:
        notebooks = Path(temporary, name)
        notebooks.mkdir()
        with jupyter(notebooks, theme) as address, chromium() as browser:
            page = new_page(browser)
            page.set_viewport_size({"width": 1280, "height": 1600})  # all of a measurement
            write_notebook(notebooks / "dashboard.ipynb", *CELLS)
            open_notebook(page, address, "dashboard.ipynb", "lab")
            run_all(page)
            page.get_by_text("● READY").first.wait_for()
            page.wait_for_timeout(TRAFFIC_MS)
            board = page.locator(".jp-OutputArea-output .widget-vbox, .jp-OutputArea-output .jupyter-widgets").first
            for panel in PANELS:
                page.locator(".lm-TabBar-tab").filter(has_text=panel).last.click()
                if panel in ACTIONS:
                    ACTIONS[panel](page, notebooks / "cat.png")
                page.wait_for_timeout(1500)  # for what the panel loads
                file = folder / f"{panel.lower().replace(' ', '-')}-{name}.png"
                board.screenshot(path=file)
                print(file, flush=True)
            for kernel in page.request.get(f"{address}/api/kernels").json():
                page.request.delete(f"{address}/api/kernels/{kernel['id']}")


def measure(page, _: Path) -> None:
    """Measure a batch latency to its end."""
    page.get_by_label("Seconds").fill("15")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("link", name="classifier.csv").wait_for(timeout=120_000)


def classify(page, picture: Path) -> None:
    """Send a picture."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a picture").click()
    chooser.value.set_files(picture)
    page.get_by_role("button", name="Choose a picture (1)").wait_for()
    page.get_by_label("Scaling").select_option(f"inception: {SCALINGS['inception']}")
    page.get_by_label("Classes").fill("3")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Egyptian cat").first.wait_for()


ACTIONS = {"Batch latency": measure, "Playground": classify}


def main() -> None:
    """Take all pictures into the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Take pictures of the dashboard.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if reason := why_no_browser():
        sys.exit(reason)
    os.environ["TRITONNB_ENGINE"] = "embedded"
    folder.mkdir(parents=True, exist_ok=True)
    for theme in (LIGHT, DARK):
        take(folder, theme)


if __name__ == "__main__":
    main()
