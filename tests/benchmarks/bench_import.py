"""What ``%load_ext tritonnb`` adds to bare IPython: fresh processes, in turn, from start to end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from results import Series, Target, publish

ROUNDS = 15
LIMIT_S = 0.050


def run_ipython(code: str, profile: str) -> float:
    """Return how long a fresh IPython takes for a line of code, in seconds."""
    command = [sys.executable, "-m", "IPython", "--no-banner", "--colors=nocolor", "-c", code]
    began = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "IPYTHONDIR": profile})
    return time.perf_counter() - began


def main() -> int:
    codes = {"bare IPython": "pass", "with %load_ext tritonnb": "%load_ext tritonnb"}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as profile:
        for code in codes.values():  # fills the caches: bytecode, IPython's profile
            run_ipython(code, profile)
        for _ in range(ROUNDS):
            for name, code in codes.items():
                seconds[name].append(run_ipython(code, profile))
    bare, loaded = (Series(name, tuple(values)) for name, values in seconds.items())
    added = loaded.median - bare.median
    target = Target(f"adds at most {LIMIT_S * 1e3:.0f} ms", f"{added * 1e3:.1f} ms", added <= LIMIT_S)
    return publish("load_ext", "a fresh IPython process, start to end", [bare, loaded], target)


if __name__ == "__main__":
    sys.exit(main())
