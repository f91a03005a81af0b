"""tritonnb's client beside tritonclient.http at its best, and `infer_many` beside the load generator.

Every run is a process of its own, the two in turn. Bars are ratios of medians. Latencies and CPU are per request; with
eight threads each has a client of its own, since tritonclient's must not be shared.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from onnx import TensorProto, helper, numpy_helper
from results import Series, Target, publish

import tritonnb as tn
from tritonnb.measure.load import Load
from tritonnb.measure.running import BEGIN, END, KIND, RunningLoad
from tritonnb.measure.wire import http_bytes

ROUNDS = 5
SECONDS = 1.0
CLIENTS = ("tritonclient", "tritonnb")
CHILD = Path(__file__).with_name("client_load.py")
SIZES = {"tiny": "tiny model", "picture": "602 KB input"}
MANY = 1000


def lay_out(models: Path) -> None:
    """Write two ONNX models: 64 numbers to 10 probabilities; a picture of 602,112 bytes to its 3 brightest values."""
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32), "w")
    softmax = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Softmax", ["a"], ["y"])]
    brightest = [helper.make_node("GlobalMaxPool", ["x"], ["y"])]
    for name, nodes, taken, given, constants in (
        ("tiny", softmax, ["N", 64], ["N", 10], [weights]),
        ("picture", brightest, ["N", 3, 224, 224], ["N", 3, 1, 1], []),
    ):
        tensors = [
            helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape)
            for tensor, shape in (("x", taken), ("y", given))
        ]
        graph = helper.make_graph(nodes, name, tensors[:1], tensors[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        folder = models / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())


def child(client: str, model: str, threads: int, seconds: str, url: str) -> str:
    """Run one client in a process of its own and return what it printed."""
    command = [sys.executable, str(CHILD), client, model, str(threads), seconds, url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def at_most(bar: float, what: str, theirs: Series, ours: Series) -> Target:
    ratio = ours.median / theirs.median
    return Target(f"{what} at most {bar} of tritonclient's", f"{ratio:.2f}", ratio <= bar)


def beside_tritonclient(model: str, url: str) -> int:
    """Measure one thread and eight; return the exit status."""
    runs: dict[tuple[str, int], list[dict[str, float]]] = {(c, n): [] for n in (1, 8) for c in CLIENTS}
    for _ in range(ROUNDS):
        for (client, threads), measured in runs.items():
            measured.append(json.loads(child(client, model, threads, str(SECONDS), url)))

    def series(client: str, threads: int, figure: str) -> Series:
        name = f"{client}, {threads} thread{'s' if threads > 1 else ''}: {figure}"
        return Series(name, tuple(run[figure] for run in runs[client, threads]), "us", 1e6)

    figures = [(1, "p50"), (1, "cpu"), (8, "per request"), (8, "cpu")]
    measured = {(n, figure): tuple(series(client, n, figure) for client in CLIENTS) for n, figure in figures}
    theirs, ours = measured[8, "per request"]
    more, wanted = theirs.median / ours.median, 1.4 if model == "tiny" else 1.3
    return publish(
        f"client-{model}",
        f"{SIZES[model]}, per request",
        [one for pair in measured.values() for one in pair],
        at_most(0.72 if model == "tiny" else 0.80, "p50", *measured[1, "p50"]),
        at_most(0.6, "CPU", *measured[1, "cpu"]),
        at_most(0.6, "CPU with 8 threads", *measured[8, "cpu"]),
        Target(f"8 threads send at least {wanted} times as much", f"{more:.2f} times", more >= wanted),
    )


def first_answer(url: str) -> int:
    """Measure from the start of a process to its first answer; return the exit status."""
    seconds: dict[str, list[float]] = {client: [] for client in CLIENTS}
    for turn in range(2 * ROUNDS + 1):
        for client in CLIENTS:
            began = time.perf_counter()
            child(client, "tiny", 1, "first", url)
            if turn:  # the first fills the caches
                seconds[client].append(time.perf_counter() - began)
    theirs, ours = (Series(client, tuple(values)) for client, values in seconds.items())
    return publish(
        "client-start", "a process from start to first answer", [theirs, ours], at_most(0.65, "time", theirs, ours)
    )


def many(deployment: tn.Deployment) -> int:
    """Measure `infer_many` beside the load generator, with as many requests in flight; return the exit status."""
    rows = np.random.default_rng(0).random((MANY, 1, 64), dtype=np.float32)
    items = [{"x": row} for row in rows]
    request = http_bytes(deployment.endpoint, "tiny", "", items[0])
    load = Load(concurrency=8, requests=MANY)
    generated, ours = [], []
    for _ in range(2 * ROUNDS):
        with RunningLoad(deployment.endpoint, load, [request]) as running:
            while not running.ended:
                time.sleep(0.01)
            records = running.read()
        assert len(records) == MANY
        assert not records[:, KIND].any()
        generated.append(float(records[:, END].max() - records[:, BEGIN].min()) / 1e9 / MANY)
        began = time.perf_counter()
        answers = list(deployment.infer_many("tiny", items, concurrency=8))
        ours.append((time.perf_counter() - began) / MANY)
        assert len(answers) == MANY
    generator, results = (
        Series("load generator", tuple(generated), "us", 1e6),
        Series("infer_many", tuple(ours), "us", 1e6),
    )
    reached = generator.median / results.median
    return publish(
        "client-many",
        f"{MANY} requests to the tiny model, 8 in flight, per request",
        [generator, results],
        Target("infer_many reaches at least 0.85 of the load generator", f"{reached:.2f}", reached >= 0.85),
    )


def memory(deployment: tn.Deployment) -> int:
    """Measure by how much 10,000 requests make the process grow; return the exit status."""
    array = np.zeros((1, 64), np.float32)
    process = psutil.Process()
    sizes = []
    for _ in range(2):
        gc.collect()
        sizes.append(process.memory_info().rss / 1e6)
        for _ in range(10_000):
            deployment.infer("tiny", {"x": array})
    gc.collect()
    sizes.append(process.memory_info().rss / 1e6)
    grown = [after - before for before, after in itertools.pairwise(sizes)]
    return publish(
        "client-memory",
        "growth of the process over 10,000 requests, twice",
        [Series("tritonnb", tuple(grown), "MB", 1.0)],
        Target("grows by less than 5 MB", f"{max(grown):.1f} MB", max(grown) < 5),
    )


def main() -> int:
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        lay_out(models := Path(folder, "models"))
        with tn.deploy(models, name="bench-client", engine="embedded") as deployment:
            missed = [beside_tritonclient(model, deployment.url) for model in SIZES]
            missed += [first_answer(deployment.url), many(deployment), memory(deployment)]
    return max(missed)


if __name__ == "__main__":
    sys.exit(main())
