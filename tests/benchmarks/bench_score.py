"""The entry-script tier beside Azure ML's own host, in turn; what the tier adds to Triton; how long a reload takes.

The same script on both sides, the same client, the same Python. An argument names a part: peer, tier or reload.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import post_load
from bench_load import at_least, at_most, tiny
from post_load import Seen
from results import Series, Target, publish

import tritonnb as tn
from tritonnb.environments import engine_environment
from tritonnb.home import home
from tritonnb.measure.sweep import measure

sys.path.insert(0, str(Path(__file__).parent.parent / "plugins"))
import azmlinfsrv

ROUNDS = 5
SECONDS = 2.0
#: By workers and concurrency: requests per second at least, and p99 at most, as a share of azmlinfsrv's.
BARS = {(1, 1): (2.2, None), (1, 8): (5, 0.4), (1, 32): (5, None), (2, 8): (4, 0.4)}
ADDED_S = 0.0003
RELOAD_S = 1.0

ECHO = """
def init():
    pass

def run(data):
    return data
"""
#: 64 numbers of the model's input as JSON are 1 KB.
FORWARD = """
import json, os
import numpy as np
import tritonclient.http as triton

def init():
    global client, x, y
    client = triton.InferenceServerClient(os.environ["TRITON_URL"])
    x, y = triton.InferInput("x", [1, 64], "FP32"), triton.InferRequestedOutput("y")

def run(data):
    x.set_data_from_numpy(np.array(json.loads(data), np.float32))
    return client.infer("tiny", [x], outputs=[y]).as_numpy("y").tolist()
"""
# The same calls without a tier: SECONDS and the body follow the script's path.
DIRECT = """
import runpy, statistics, sys, time
script = runpy.run_path(sys.argv[1])
script["init"]()
seconds, body, took = float(sys.argv[2]), sys.argv[3], []
end = time.perf_counter() + seconds
while (began := time.perf_counter()) < end:
    script["run"](body)
    took.append(time.perf_counter() - began)
print(statistics.median(took))
"""


@contextlib.contextmanager
def serving(folder: Path, script: str, workers: int = 1):
    """Serve the tiny model behind a script."""
    model = folder / "models" / "tiny" / "1" / "model.onnx"
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(tiny())
    (folder / "score.py").write_text(script)
    score = {"entry_script": "score.py", "source_directory": str(folder), "port": 0, "workers": workers}
    with tn.deploy(folder / "models", name="bench-score", engine="embedded", score=score) as deployment:
        yield deployment


@contextlib.contextmanager
def original(folder: Path, script: str, workers: int, triton: str = ""):
    """Serve a script with azmlinfsrv; give its scoring URI."""
    os.environ.setdefault("TRITONNB_TEST_SESSION", "bench")
    variables = {"WORKER_COUNT": str(workers), "TRITON_URL": triton.removeprefix("http://")}
    host = azmlinfsrv.OriginalHost(azmlinfsrv.install(home()), folder / str(workers), {"score.py": script}, variables)
    try:
        if not host.wait():
            raise RuntimeError(f"azmlinfsrv does not serve:\n{host.log()}")
        yield f"http://127.0.0.1:{host.port}/score"
    finally:
        host.end()


def peer(folder: Path) -> int:
    """Compare throughput and p99 with azmlinfsrv's."""
    body = json.dumps({"data": "x" * 50}).encode()
    series, targets = [], []
    for workers in sorted({workers for workers, _ in BARS}):
        with serving(folder, ECHO, workers) as ours, original(folder / "original", ECHO, workers) as theirs:
            addresses = {"azmlinfsrv": theirs, "tritonnb": ours.scoring_uri}
            for url in addresses.values():
                post_load.load(url, body, 8, 1)  # the first requests
            for concurrency in (concurrency for count, concurrency in BARS if count == workers):
                runs: dict[str, list[Seen]] = {who: [] for who in addresses}
                for _ in range(ROUNDS):
                    for who, url in addresses.items():
                        runs[who].append(post_load.load(url, body, concurrency, SECONDS))
                told, kept = compared(workers, concurrency, runs)
                series += told
                targets += kept
    about = f"an echo script, by workers and concurrency; the load is {post_load.client()}'s"
    return publish("score_peer", about, series, *targets)


def compared(workers: int, concurrency: int, runs: dict[str, list[Seen]]) -> tuple[list[Series], list[Target]]:
    name = f"{workers} worker{'s' * (workers > 1)}, concurrency {concurrency}"
    series = [
        one
        for who, seen in runs.items()
        for one in (
            Series(f"{name}: {who}, requests/s", tuple(each.requests_per_s for each in seen), "/s", 1),
            Series(f"{name}: {who}, p50", tuple(each.p50 for each in seen), "us", 1e6),
            Series(f"{name}: {who}, p99", tuple(each.p99 for each in seen), "us", 1e6),
        )
    ]
    their_rate, _, their_p99, rate, _, p99 = (one.median for one in series)
    throughput, slowest = BARS[workers, concurrency]
    targets = [at_least(f"{name}: throughput", rate / their_rate, throughput)]
    if slowest:
        targets.append(at_most(f"{name}: p99", p99 / their_p99, slowest))
    return series, targets


def tier(folder: Path) -> int:
    """Show what the tier adds to a direct request by the script's own client; and what azmlinfsrv adds."""
    numbers = np.random.default_rng(0).random((1, 64)).round(12)
    x, body = numbers.astype(np.float32), json.dumps(numbers.tolist()).encode()
    with serving(folder, FORWARD) as ours, original(folder / "original", FORWARD, 1, ours.url) as theirs:

        def bare() -> float:
            [point] = measure(ours.endpoint, "tiny", inputs={"x": x}, rule=post_load.one_window(SECONDS)).points
            assert point.latency is not None
            return point.latency.p50_us / 1e6

        ways = {
            "direct, by the load generator": bare,
            "direct, by the script's run() without a tier": lambda: direct(folder / "score.py", body, ours.url),
            "through the tier": lambda: post_load.own(ours.scoring_uri, body, 1, SECONDS).p50,
            "through azmlinfsrv": lambda: post_load.own(theirs, body, 1, SECONDS).p50,
        }
        rounds = [[way() for way in ways.values()] for _ in range(ROUNDS)]
    series = [Series(name, values, "us", 1e6) for name, values in zip(ways, zip(*rounds, strict=True), strict=True)]
    generator, client, added, by_theirs = (one.median for one in series)
    seen = f"{(added - client) * 1e3:.3f} ms (azmlinfsrv: {(by_theirs - client) * 1e3:.3f} ms)"
    target = Target(f"the tier adds at most {ADDED_S * 1e3:g} ms", seen, added - client <= ADDED_S)
    about = f"p50 of a tiny model, {len(body)} bytes, one at a time; with the work of run() the tier adds"
    return publish("score_tier", f"{about} {(added - generator) * 1e3:.3f} ms", series, target)


def direct(script: Path, body: bytes, triton: str) -> float:
    """Return the p50 of a script's run() in a process of its own, in seconds."""
    environment = engine_environment()
    variables = {**environment.variables(), "TRITON_URL": triton.removeprefix("http://")}
    command = [environment.python, "-c", DIRECT, script, str(SECONDS), body]
    return float(subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout)


def reload(folder: Path) -> int:
    """Show how long it takes from the change of a script to its first answer."""
    values = []
    with serving(folder, FORWARD) as deployment:
        for number in range(ROUNDS):
            changed = FORWARD.replace('return client.infer("tiny"', f'return [{number}] + client.infer("tiny"')
            began = time.perf_counter()
            (folder / "score.py").write_text(changed)
            deployment.reload()
            assert deployment.run([[0.0] * 64])[0] == number
            values.append(time.perf_counter() - began)
    series = Series("changed, reloaded, answered", tuple(values))
    target = Target(f"under {RELOAD_S:g} s", f"{series.median * 1e3:.0f} ms", series.median < RELOAD_S)
    return publish("score_reload", "a script that makes a tritonclient in init()", [series], target)


def main() -> int:
    os.environ["TRITONNB_NONINTERACTIVE"] = "1"
    parts = {"peer": peer, "tier": tier, "reload": reload}
    missed = 0
    for name in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory() as folder:
            missed = max(missed, parts[name](Path(folder)))
    return missed


if __name__ == "__main__":
    sys.exit(main())
