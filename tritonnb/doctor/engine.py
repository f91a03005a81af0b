"""The Python that the engine is made from, and the engine environment itself."""

from __future__ import annotations

from tritonnb.doctor.programs import answer_of, last_line
from tritonnb.doctor.report import ENGINE, INTERPRETER, Finding, megabytes
from tritonnb.environments import EngineEnvironment, Interpreter, check_room, environment_for, find_interpreter
from tritonnb.errors import EngineError, EnvironmentBuildError


def search_interpreter() -> Interpreter | Exception:
    """Return the Python that the engine is made from, or why there is none."""
    try:
        return find_interpreter()
    except Exception as error:  # noqa: BLE001  (whatever it is becomes a finding)
        return error


def engine_python(search: Interpreter | Exception) -> Finding:
    """Say which Python the engine is made from, or what was tried."""
    if isinstance(search, Interpreter):
        version = ".".join(map(str, search.version))
        return Finding(
            INTERPRETER, "ok", "owns a shared libpython", detail=f"{version} at {search.path}, {search.library}"
        )
    if isinstance(search, EngineError):
        found, _, tried = search.message.rstrip(".").partition(". Tried: ")
        mend = search.hint or "run tritonnb on such a machine."
        return Finding(INTERPRETER, "missing", found, mend, tried and f"tried {tried}")
    raise search


def built_engine(search: Interpreter | Exception) -> Finding:
    """Say whether the engine is built, and whether what was built still works."""
    if not isinstance(search, Interpreter):
        return Finding(ENGINE, "unknown", "needs its Python first", "see to its Python first.")
    environment = environment_for(search)
    if not environment.folder.exists():
        engines = environment.folder.parent
        try:
            check_room(next(above for above in engines.parents if above.exists()))
        except EnvironmentBuildError as error:
            return Finding(ENGINE, "missing", "not built, and no room for it", error.hint, error.message)
        mend = "run `tritonnb engine install`; the first deployment does it too."
        return Finding(ENGINE, "missing", "not built", mend, str(engines))
    if complaint := _complaint(environment):
        mend = "remove its folder and run `tritonnb engine install`."
        return Finding(ENGINE, "broken", "built, but damaged", mend, f"{environment.folder}: {complaint}")
    size = sum(file.stat().st_size for file in environment.folder.rglob("*") if file.is_file())
    return Finding(ENGINE, "ok", "built, and its server runs", detail=f"{environment.folder}, {megabytes(size)}")


def _complaint(environment: EngineEnvironment) -> str:
    """Say why a built engine cannot serve; empty where it can."""
    for file in (environment.python, environment.tritonserver, *environment.backend_files):
        if not file.exists():
            return f"{file.name} is not there"
    server = answer_of([environment.tritonserver, "--help"], environment.variables())
    if "Usage: tritonserver" not in server.stdout + server.stderr:  # its exit code is 1 even so
        return last_line(server.stderr) or "tritonserver does not start"
    packages = answer_of([environment.python, "-c", "import numpy, onnxruntime"], environment.variables())
    return last_line(packages.stderr) if packages.returncode else ""
