"""One run of one client, in a process of its own: prints what it measured as JSON.

``client_load.py CLIENT MODEL THREADS SECONDS URL``; CLIENT is ``tritonnb``, or ``tritonclient`` with its input object
used again for every request, as fast as it can be.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time

import numpy as np

SHAPES = {"tiny": (1, 64), "picture": (1, 3, 224, 224)}
WARM_UP = 30


def caller(client: str, model: str, url: str):
    """Return a function that sends a request and gives the output as an array."""
    array = np.random.default_rng(0).random(SHAPES[model], dtype=np.float32)
    if client == "tritonclient":
        from tritonclient.http import InferenceServerClient, InferInput

        official = InferenceServerClient(url.partition("://")[2])
        tensor = InferInput("x", list(array.shape), "FP32")
        tensor.set_data_from_numpy(array)
        return lambda: official.infer(model, [tensor]).as_numpy("y")
    import tritonnb as tn

    connection = tn.connect(url, name=threading.current_thread().name)
    return lambda: connection.infer(model, {"x": array})["y"]


def main() -> None:
    client, model, threads, seconds, url = sys.argv[1:]
    if seconds == "first":  # the process's start to its end is what is measured
        caller(client, model, url)()
        return
    latencies: list[float] = []
    ready = threading.Barrier(int(threads) + 1)

    def run() -> None:
        call = caller(client, model, url)
        for _ in range(WARM_UP):
            call()
        mine = []
        ready.wait()
        before = time.perf_counter()
        end = before + float(seconds)
        while before < end:
            call()
            now = time.perf_counter()
            mine.append(now - before)
            before = now
        latencies.extend(mine)

    running = [threading.Thread(target=run) for _ in range(int(threads))]
    for thread in running:
        thread.start()
    ready.wait()
    cpu_s, begun = time.process_time(), time.perf_counter()
    for thread in running:
        thread.join()
    count = len(latencies)
    measured = {
        "p50": statistics.median(latencies),
        "per request": (time.perf_counter() - begun) / count,
        "cpu": (time.process_time() - cpu_s) / count,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
