"""How an environment is built: by one process at a time, beside its place, and moved there when it is whole."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb.home import home_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Told what is going on, and how much of it is done (0 to 1; None where that cannot be known).
Report = Callable[[str, float | None], None]


class StepError(Exception):
    """A step of a build failed.

    Parameters
    ----------
    lines
        What it said.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines[-1] if lines else "no output")
        self.lines = lines


def build_once(folder: Path, build: Callable[[Path], None], what: str, report: Report) -> None:
    """Build an environment where it is missing; a half-built one is never used, nor left.

    Parameters
    ----------
    folder
        Its place, in a folder of tritonnb's home.
    build
        Builds it as ``env`` in the folder that it is given.
    what
        What it is called while another process builds it.
    report
        Told when another process builds it.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  (lazy: the package is imported by every face)

    if folder.exists():
        return
    shelf = home_folder(folder.parent.name)
    lock = FileLock(shelf / f"{folder.name}.lock")
    while not lock.is_locked:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=1)
            break
        report(f"another process is building {what}; waiting for it", None)
    try:
        if folder.exists():
            return
        # Of a build that was killed, and no other: we hold the lock.
        for leftover in shelf.glob(f"{folder.name}.building-*"):
            remove(leftover)
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=shelf))
        try:
            build(draft)
            move_programs(draft / "env" / "bin", draft / "env", folder)
            (draft / "env").rename(folder)
        finally:
            remove(draft)
    finally:
        lock.release()


def remove_leftovers(shelf: Path) -> None:
    """Remove what killed builds have left in a folder of environments, and the locks of those that are gone.

    A build that goes on is not touched.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  (as above)

    for lock in shelf.glob("*.lock"):
        with contextlib.suppress(Timeout), FileLock(lock, timeout=0):
            for leftover in shelf.glob(f"{lock.stem}.building-*"):
                remove(leftover)
            if not lock.with_suffix("").exists():
                lock.unlink()  # whoever waits for it takes a new one


def move_programs(programs: Path, made: Path, folder: Path) -> None:
    """Let the scripts of packages name the Python of a folder, and not of that in which they were made."""
    programs.mkdir(exist_ok=True)
    for program in programs.iterdir():
        if program.is_symlink() or not program.is_file():
            continue
        if (content := program.read_bytes()).startswith(b"#!"):
            # Where the path is long, the second line names it.
            program.write_bytes(content.replace(bytes(made), bytes(folder), 2))


def make_virtual_environment(draft: Path, interpreter: Path, *options: str, name: str = "env") -> Path:
    """Make a virtual environment of an interpreter in a draft, and return its folder.

    Raises
    ------
    StepError
        It could not be made.
    """
    # virtualenv and not venv: it needs no python3-venv package. Its cache stays in the draft and goes with it.
    data = draft / "app-data"
    made = draft / name
    run_step(
        [sys.executable, "-m", "virtualenv", "--quiet", *options, "--app-data", data, "--python", interpreter, made]
    )
    return made


def run_step(
    command: list[str | Path],
    on_line: Callable[[str], None] | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """Run a step of a build and return what it said; on failure and on Ctrl-C nothing of it goes on.

    Parameters
    ----------
    command
        The program and its arguments.
    on_line
        Given each line that it writes.
    variables
        Its environment variables; without them, this process's.

    Raises
    ------
    StepError
        It failed.
    """
    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=variables,
    ) as step:
        try:
            for line in step.stdout or ():
                lines.append(line.rstrip())
                if on_line:
                    on_line(line)
        except BaseException:
            _kill(step.pid)
            raise
    if step.returncode:
        raise StepError(lines)
    return lines


def _kill(pid: int) -> None:
    """Kill a step and what it has started: pip builds a package in processes of its own."""
    import psutil  # noqa: PLC0415  (only where a build is broken off)

    with contextlib.suppress(psutil.NoSuchProcess):
        step = psutil.Process(pid)
        for process in (step, *step.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def remove(folder: Path) -> None:
    """Remove a folder; again when a step's child, killed with it, still wrote into it for a moment."""
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
