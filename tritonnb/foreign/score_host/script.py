"""The entry script: found, loaded, its ``run()`` looked at and called."""

from __future__ import annotations

import inspect
import json
import sys
import time
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

from . import contrib
from .messages import HTML, Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .log import Log
    from .messages import Request
    from .tracebacks import Tracebacks

WENT_WRONG = "An unexpected error occurred in scoring script. Check the logs for more info."
NOT_JSON = "An unexpected internal error occurred. Check the logs for more info."


class ScriptError(Exception):
    """The script cannot be served.

    Parameters
    ----------
    kind
        ``import`` or ``init``.
    message
        What is wrong, in one line.
    text
        The traceback, from the script's own lines on.
    """

    def __init__(self, kind: str, message: str, text: str = "") -> None:
        super().__init__(message)
        self.failure = {"kind": kind, "message": message, "traceback": text}


class _InputError(Exception):
    """A request that does not fit what ``run()`` takes."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Script:
    """A loaded entry script.

    Parameters
    ----------
    path
        The file.
    shown_as
        What messages call it.
    tracebacks
        Writes its tracebacks.
    log
        Where tracebacks of ``run()`` go.
    """

    def __init__(self, path: Path, shown_as: str, tracebacks: Tracebacks, log: Log) -> None:
        self._path = path
        self._shown_as = shown_as
        self._tracebacks = tracebacks
        self._log = log
        module = self._load()
        self._check(module)
        self._init = module.init
        self.run = module.run
        self._look_at_run()

    def _load(self) -> Any:
        spec = spec_from_file_location("entry_module", self._path)
        module = module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            # Compiled here and not by its loader: that one trusts a .pyc of the same second and size.
            exec(compile(self._path.read_bytes(), self._path, "exec"), module.__dict__)  # noqa: S102  (it is the point)
        except OSError as error:
            if error.filename == str(self._path):
                raise ScriptError("import", f"{self._shown_as} cannot be read: {error.strerror}") from None
            raise self._broken("import", f"{self._shown_as} cannot be imported", error) from error
        except BaseException as error:
            raise self._broken("import", f"{self._shown_as} cannot be imported", error) from error
        return module

    def _check(self, module: Any) -> None:
        for name in ("init", "run"):
            if not callable(getattr(module, name, None)):
                raise ScriptError("import", f"{self._shown_as} does not define {name}()")
        if inspect.iscoroutinefunction(module.run) or inspect.iscoroutinefunction(module.init):
            raise ScriptError("import", f"init() and run() of {self._shown_as} must be plain functions, not async ones")

    def _look_at_run(self) -> None:
        parameters = list(inspect.signature(self.run).parameters.values())
        if any(each.kind not in {each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD} for each in parameters):
            raise ScriptError("import", "run() cannot take positional-only arguments, *args or **kwargs")
        self._takes_headers = any(each.name == "request_headers" for each in parameters)
        parameters = [each for each in parameters if each.name != "request_headers"]
        if not parameters:
            raise ScriptError("import", "run() must take an argument for the data")
        raw, decorated = contrib.is_raw_http(), contrib.is_schema_decorated(self.run)
        if raw and decorated:
            raise ScriptError("import", "run() cannot be decorated with both @rawhttp and @input_schema")
        self._arguments: Callable[[Request], dict[str, Any]]
        if raw:
            self._arguments = lambda request: {parameters[0].name: contrib.raw_request(request)}
        elif decorated:
            self._arguments = lambda request: _by_name(request, parameters)
        else:
            self._arguments = lambda request: {parameters[0].name: _text(request)}

    def init(self) -> None:
        """Call ``init()``.

        Raises
        ------
        ScriptError
            It raised.
        """
        try:
            self._init()
        except BaseException as error:  # a script that exits in init() has failed too
            raise self._broken("init", "init() failed", error) from error

    def answer(self, request: Request) -> Answer:
        """Call ``run()`` with a request's data and return what is to be sent back; raises nothing."""
        try:
            arguments = self._arguments(request)
        except _InputError as refused:
            return refused.answer
        if self._takes_headers:
            arguments["request_headers"] = request.headers_by_name()
        began = time.perf_counter()
        try:
            output = self.run(**arguments)
        except BaseException as error:  # noqa: BLE001  (one request's error ends no worker, sys.exit() neither)
            self._log.write(f"run() failed: {self._tracebacks.of(error)}")
            return Answer.refusal(500, WENT_WRONG, run_failed=True)
        elapsed_ms = (time.perf_counter() - began) * 1000
        try:
            answer = contrib.raw_answer(output, request) or Answer.of({} if output is None else output)
        except Exception as error:  # noqa: BLE001  (whatever an object's own methods raise)
            self._log.write(
                f"run() returned what cannot be sent, {type(output).__name__}: {self._tracebacks.of(error)}"
            )
            return Answer.refusal(500, NOT_JSON)
        answer.headers.append((b"x-ms-run-fn-exec-ms", f"{elapsed_ms:.3f}".encode()))
        return answer

    def _broken(self, kind: str, what: str, error: BaseException) -> ScriptError:
        said = " ".join(traceback.format_exception_only(error)[-1].split())
        return ScriptError(kind, f"{what}: {said}", self._tracebacks.of(error))


def _text(request: Request) -> str:
    if request.method == "GET":
        return json.dumps(request.parameters())
    _only_post(request)
    try:
        return request.body.decode()
    except UnicodeDecodeError as error:
        raise _InputError(Answer.refusal(400, f"Input cannot be decoded as UTF-8: {error}")) from None


def _by_name(request: Request, parameters: list[inspect.Parameter]) -> dict[str, Any]:
    if request.method == "GET":
        given: object = request.parameters()
    else:
        _only_post(request)
        content_type = request.header(b"content-type").partition(";")[0].strip().lower()
        is_json = content_type == "application/json" or (
            content_type.startswith("application/") and content_type.endswith("+json")
        )
        if not is_json:
            raise _InputError(Answer.refusal(415, "Expects Content-Type to be application/json"))
        try:
            given = json.loads(request.body)
        except ValueError as error:
            if not request.body:
                raise _InputError(Answer.refusal(400, "POST body is empty. Expecting a JSON dictionary.")) from None
            raise _InputError(Answer.refusal(400, f"POST body could not be decoded as JSON: {error}")) from None
        if not isinstance(given, dict):
            raise _InputError(Answer.refusal(400, "POST body should be a JSON dictionary."))
    arguments = {each.name: given.get(each.name, each.default) for each in parameters}
    for name, value in arguments.items():
        if value is inspect.Parameter.empty:
            raise _InputError(Answer.refusal(400, f"A value is not provided for the {name!r} parameter."))
    return arguments


def _only_post(request: Request) -> None:
    if request.method == "OPTIONS":
        raise _InputError(Answer(200, b"", [HTML, (b"x-ms-run-function-failed", b"False")]))
    if request.method != "POST":  # HEAD, which only a raw run() may answer
        raise _InputError(Answer.refusal(405, "Method not allowed"))
