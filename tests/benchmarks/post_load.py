"""Load on an address that takes a POST: from ``wrk`` where it is installed, else from our own generator.

Both keep connections alive, and make new ones where a server closes them after each answer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tritonnb.endpoint import Endpoint
from tritonnb.measure.scoring import measure_run
from tritonnb.measure.stability import Rule

# Told by wrk itself: its summary is in microseconds.
SCRIPT = """
wrk.method = "POST"
wrk.body = {body}
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{{"requests": %d, "us": %d, "p50": %d, "p99": %d, "errors": %d}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status + e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True)
class Seen:
    """What a load generator says of a load: latencies in seconds."""

    requests_per_s: float
    p50: float
    p99: float


def client() -> str:
    """Return what sends the load."""
    return "wrk" if shutil.which("wrk") else "tritonnb's generator"


def load(url: str, body: bytes, concurrency: int, seconds: float) -> Seen:
    """Send the same body again and again.

    Raises
    ------
    RuntimeError
        A request failed.
    """
    return _wrk(url, body, concurrency, seconds) if shutil.which("wrk") else own(url, body, concurrency, seconds)


def own(url: str, body: bytes, concurrency: int, seconds: float) -> Seen:
    """Send it by our own generator, as `load`."""
    [point] = measure_run(
        Endpoint(url),
        body,
        headers={"Content-Type": "application/json"},
        concurrency=[concurrency],
        rule=one_window(seconds),
        warm_up_s=0.2,
    ).points
    if point.failed or point.latency is None:
        raise RuntimeError(f"requests failed: {point.errors}")
    return Seen(point.requests_per_s, point.latency.p50_us / 1e6, point.latency.p99_us / 1e6)


def one_window(seconds: float) -> Rule:
    """Return the rule that gives a result of one window, whatever came of it."""
    return Rule(seconds, min_requests=0, windows=1, max_windows=1)


def _wrk(url: str, body: bytes, concurrency: int, seconds: float) -> Seen:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(SCRIPT.format(body=json.dumps(body.decode())))
        command = ["wrk", "-t1", f"-c{concurrency}", f"-d{max(1, round(seconds))}", "-s", script, url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seen = json.loads(said.splitlines()[-1])
    if seen["errors"] or not seen["requests"]:
        raise RuntimeError(f"requests failed:\n{said}")
    return Seen(seen["requests"] / seen["us"] * 1e6, seen["p50"] / 1e6, seen["p99"] / 1e6)
