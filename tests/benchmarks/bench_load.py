"""The load generator beside perf_analyzer, on one server, in turn: what it costs, and whether both see the same.

A tiny model shows what the generators themselves cost; steady compute shows whether they agree.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import perf_analyzer
import psutil
from perf_analyzer import Seen
from results import Series, Target, publish

import tritonnb as tn
from tritonnb import samples
from tritonnb.home import home
from tritonnb.measure import wire
from tritonnb.measure.load import Load
from tritonnb.measure.running import RunningLoad
from tritonnb.measure.stability import Rule
from tritonnb.measure.sweep import measure

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
WHO = ("perf_analyzer", "tritonnb")
#: By concurrency: throughput at least, p50 and client CPU at most, each as a share of perf_analyzer's.
BARS = {
    1: (1.3, 0.75, 0.5),
    2: (1.4, 0.75, None),
    4: (1.5, 0.75, 0.33),
    8: (1.5, 0.75, 0.33),
    16: (1.5, 0.75, 0.33),
    32: (1.3, 0.75, 0.33),
}
MILLION = 1_000_000
#: By then every page of the memory for records has been written to.
ROUND = 300_000
GROWTH_BYTES = 1 << 20
#: The length of each of the three windows.
PROOF_S = 3
#: By how much the two may differ.
WITHIN = {"requests_per_s": 0.05, "p50": 0.05, "p99": 0.15} | dict.fromkeys(
    ("queue", "compute_input", "compute_infer", "compute_output"), 0.10
)
#: Parts of the server's split below this share of the latency are noise.
NOTABLE = 0.05

# A Python model whose compute is known.
SLEEPER = """
import time
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.020)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
                for r in requests]
"""
ONE_INSTANCE = "instance_group [{ count: 1 kind: KIND_CPU }]\n"
CONFIGS = {
    "tiny": f"max_batch_size: 32\ndynamic_batching {{ }}\n{ONE_INSTANCE}",
    "sleeper": f"""
backend: "python"
input [{{ name: "x" data_type: TYPE_FP32 dims: [ 4 ] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [ 4 ] }}]
{ONE_INSTANCE}""",
    samples.MODEL_NAME: f"max_batch_size: 8\n{ONE_INSTANCE}",
}


def lay_out(folder: Path) -> Path:
    """Write the repository: tiny, sleeper and EfficientNet-Lite0."""
    repository = samples.lay_out(folder).parents[2]
    for name, config in CONFIGS.items():
        (repository / name / "1").mkdir(parents=True, exist_ok=True)
        (repository / name / "config.pbtxt").write_text(config)
    (repository / "tiny" / "1" / "model.onnx").write_bytes(tiny())
    (repository / "sleeper" / "1" / "model.py").write_text(SLEEPER)
    return repository


def tiny() -> bytes:
    """Return softmax(x @ w), 64 to 10."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.random.default_rng(0).random((64, 10), np.float32), "w")
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", s]) for n, s in (("x", 64), ("y", 10))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Softmax", ["m"], ["y"])]
    graph = helper.make_graph(nodes, "tiny", tensors[:1], tensors[1:], [weights])
    opset = helper.make_opsetid("", 13)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


def ours(deployment: tn.Deployment, model: str, concurrency: int, batch: int = 1, interval_s: int = 1) -> Seen:
    """Measure with tritonnb, by the same windows as perf_analyzer."""
    before = perf_analyzer.children_cpu() + time.process_time(), answered(deployment, model)
    [point] = measure(
        deployment.endpoint,
        model,
        batch_sizes=[batch],
        concurrency=[concurrency],
        rule=Rule(interval_s, min_requests=0, max_windows=3, tolerance=9),
    ).points
    cpu = perf_analyzer.children_cpu() + time.process_time() - before[0]
    assert point.latency is not None
    assert point.server is not None
    latency = (point.latency.mean_us, point.latency.p50_us, point.latency.p99_us)
    server = point.server
    split = (server.queue_us, server.compute_input_us, server.compute_infer_us, server.compute_output_us)
    cpu_per_request = cpu / (answered(deployment, model) - before[1])
    return Seen(point.requests_per_s, *(us / 1e6 for us in (*latency, *split)), cpu_per_request)


def theirs(deployment: tn.Deployment, model: str, concurrency: int, batch: int = 1, interval_s: int = 1) -> Seen:
    """Measure with perf_analyzer."""
    address = deployment.url.partition("//")[2]
    return perf_analyzer.measure(
        address,
        model,
        concurrency,
        batch=batch,
        interval_s=interval_s,
        answered=lambda: answered(deployment, model),
    )


def answered(deployment: tn.Deployment, model: str) -> int:
    """Return how many requests the server has counted."""
    return sum(version["inference_stats"]["success"]["count"] for version in deployment.statistics(model))


def in_turn(deployment: tn.Deployment, *load: Any) -> list[tuple[Seen, Seen]]:
    """Measure a load with perf_analyzer and with tritonnb, again and again."""
    return [(theirs(deployment, *load), ours(deployment, *load)) for _ in range(ROUNDS)]


def speed(deployment: tn.Deployment) -> int:
    """Compare throughput, p50 and client CPU on the tiny model."""
    series: list[Series] = []
    targets: list[Target] = []
    for concurrency, (throughput, p50, cpu) in BARS.items():
        try:
            rounds = in_turn(deployment, "tiny", concurrency)
        except RuntimeError as error:  # what was measured at the others counts all the same
            targets.append(Target(f"concurrency {concurrency}: measured", str(error), met=False))
            continue
        for who, runs in zip(WHO, zip(*rounds, strict=True), strict=True):
            name = f"{concurrency:2} {who}"
            series += [
                Series(f"{name}, requests/s", tuple(seen.requests_per_s for seen in runs), "/s", 1),
                Series(f"{name}, p50", tuple(seen.p50 for seen in runs), "us", 1e6),
                Series(f"{name}, client CPU per request", tuple(seen.cpu_per_request for seen in runs), "us", 1e6),
            ]
        (theirs_rate, theirs_p50, theirs_cpu), (rate, ours_p50, ours_cpu) = (
            (one.median for one in series[-6:][i : i + 3]) for i in (0, 3)
        )
        targets += [
            at_least(f"concurrency {concurrency}: throughput", rate / theirs_rate, throughput),
            at_most(f"concurrency {concurrency}: p50", ours_p50 / theirs_p50, p50),
        ]
        if cpu:
            targets.append(at_most(f"concurrency {concurrency}: client CPU", ours_cpu / theirs_cpu, cpu))
    return publish("load_speed", "a tiny model over HTTP, by concurrency", series, *targets)


def proof(deployment: tn.Deployment) -> int:
    """Show that both see the same on steady compute."""
    series, targets = [], []
    for model, concurrency, batch in (("sleeper", 1, 1), ("sleeper", 4, 1), (samples.MODEL_NAME, 1, 8)):
        about = f"{model}, batch {batch}, concurrency {concurrency}"
        ours(deployment, model, concurrency, batch)  # the model's first requests
        rounds = in_turn(deployment, model, concurrency, batch, PROOF_S)
        for field, within in WITHIN.items():
            pair = [
                Series(
                    f"{about}: {who}, {field}",
                    tuple(getattr(seen, field) for seen in runs),
                    *(("/s", 1) if field == "requests_per_s" else ("ms", 1e3)),
                )
                for who, runs in zip(WHO, zip(*rounds, strict=True), strict=True)
            ]
            series += pair
            differ = pair[1].median / pair[0].median - 1 if pair[0].median else 0.0
            notable = NOTABLE * statistics.median(seen.p50 for seen, _ in rounds)
            if pair[0].median >= notable:
                targets.append(Target(f"{about}: {field} within {within:.0%}", f"{differ:+.1%}", abs(differ) <= within))
    return publish("load_proof", "steady compute, perf_analyzer and tritonnb in turn", series, *targets)


def memory(deployment: tn.Deployment) -> int:
    """Show that memory stays flat over a million requests, in the generator and in the process that reads it."""
    endpoint = deployment.endpoint
    request = wire.http_bytes(endpoint, "tiny", "", {"x": np.zeros((1, 64), np.float32)})
    seen: list[tuple[int, int]] = []
    with RunningLoad(endpoint, Load(16), [request]) as running:
        generator = psutil.Process(running.pid)
        done = 0
        while done < MILLION:
            time.sleep(0.05)
            done += len(running.read())
            if done > ROUND:
                seen.append((generator.memory_info().rss, psutil.Process().memory_info().rss))
    quarter = max(1, len(seen) // 4)
    growth = [statistics.median(c[-quarter:]) - statistics.median(c[:quarter]) for c in zip(*seen, strict=True)]
    series = [
        Series(name, tuple(column), "MiB", 1 / (1 << 20))
        for name, column in zip(("generator", "reader"), zip(*seen, strict=True), strict=True)
    ]
    targets = (
        Target(f"{one.name} grows by at most 1 MiB", f"{grown / (1 << 20):.2f} MiB", grown <= GROWTH_BYTES)
        for one, grown in zip(series, growth, strict=True)
    )
    return publish("load_memory", "resident memory over 1,000,000 requests", series, *targets)


def at_least(what: str, ratio: float, bar: float) -> Target:
    return Target(f"{what} at least {bar} times", f"{ratio:.2f}", ratio >= bar)


def at_most(what: str, ratio: float, bar: float) -> Target:
    return Target(f"{what} at most {bar} times", f"{ratio:.2f}", ratio <= bar)


def main() -> int:
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    parts = {"speed": speed, "proof": proof, "memory": memory}
    with (
        tempfile.TemporaryDirectory() as folder,
        tn.deploy(lay_out(Path(folder, "models")), name="bench", engine="embedded") as deployment,
    ):
        perf_analyzer.install(home())
        ours(deployment, "tiny", 1)  # imports, and the server's first requests
        return max([run(parts[name], deployment) for name in sys.argv[1:] or parts])


def run(part: Callable[[tn.Deployment], int], deployment: tn.Deployment) -> int:
    """Run a part; one that fails leaves the others their turn."""
    try:
        return part(deployment)
    except Exception:  # noqa: BLE001  (whatever it is, it is shown)
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
