"""The errors that tritonnb raises, all with a hint on what to do next.

::

    TritonNbError
    ├── UsageError             the options of a magic or of the command line are wrong
    ├── SpecError              a spec, an option or an argument is wrong (line and nearest right key)
    ├── RepositoryError        no model found, a layout that Triton would refuse
    │   └── ModelConfigError   a config.pbtxt is wrong (line and column)
    ├── RegistryError          no such registered model, a version that is taken, one that is deployed
    ├── HomeError              tritonnb's folder on disk cannot be used
    ├── EngineError            an engine cannot be had or cannot start
    │   ├── EnvironmentBuildError   the engine's Python environment could not be built
    │   └── PortInUseError     a port that was asked for is taken
    ├── DeploymentError        a deployment failed, or is not in a state to do what was asked
    │   └── EntryScriptError   an entry script could not be started; with its own traceback
    ├── InferenceError         a request does not fit the model, or the server refused it
    └── ServerError            the server answered with an error, or did not answer
        ├── ServerUnreachableError
        └── ScoringError       an entry script failed at a request, or refused it

Every one of them shows in a notebook as a line or two and not as a traceback, and still is a real
``error`` output, so that nbval, nbclient and papermill see the cell fail (a bare ``UsageError`` is passed over).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class TritonNbError(Exception):
    """What failed, what was seen, and a hint on what to do next.

    Parameters
    ----------
    message
        What failed and what was seen, in one sentence.
    hint
        What to do next, in one sentence; empty where there is nothing to advise.
    logs
        The last relevant lines of the log, the server's or the entry script's; empty where there are none.
    """

    def __init__(self, message: str, *, hint: str = "", logs: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.logs = logs

    def __str__(self) -> str:
        parts = [self.message]
        if self.logs:
            parts.append("Last lines of the log:\n" + self.logs.rstrip())
        if self.hint:
            parts.append("Hint: " + self.hint)
        return "\n".join(parts)

    def _render_traceback_(self) -> list[str]:
        """Show the message instead of a traceback (IPython's protocol, also kept by ipykernel)."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(TritonNbError):
    """The options of a magic or of the command line are wrong."""


class SpecError(TritonNbError, ValueError):
    """A spec, an option or an argument is wrong."""


class RepositoryError(TritonNbError):
    """A model repository cannot be made from what was given."""


class ModelConfigError(RepositoryError):
    """A ``config.pbtxt``, or Triton keys in a spec, do not follow Triton's ModelConfig schema."""


class RegistryError(TritonNbError):
    """A registered model is not there, is there already, or is in use."""


class HomeError(TritonNbError):
    """tritonnb's folder on disk cannot be used."""


class EngineError(TritonNbError):
    """An engine cannot be had here, or its server could not be started."""


class EnvironmentBuildError(EngineError):
    """The Python environment of the embedded engine could not be built."""


class PortInUseError(EngineError):
    """A port that was asked for is taken."""


class DeploymentError(TritonNbError):
    """A deployment failed, or is not in a state to do what was asked."""


class EntryScriptError(DeploymentError):
    """The entry script could not be started: it could not be imported, or its ``init()`` failed or took too long.

    Parameters
    ----------
    traceback
        The script's own; empty where there is none.
    """

    def __init__(self, message: str, *, traceback: str = "", hint: str = "", logs: str = "") -> None:
        super().__init__(message, hint=hint, logs=logs)
        self.traceback = traceback


class InferenceError(TritonNbError, ValueError):
    """A request does not fit the model's inputs."""


class ServerError(TritonNbError):
    """The server answered with an error.

    Parameters
    ----------
    status
        The HTTP status code; 0 where no answer came.
    """

    def __init__(self, message: str, *, status: int = 0, hint: str = "", logs: str = "") -> None:
        super().__init__(message, hint=hint, logs=logs)
        self.status = status


class ServerUnreachableError(ServerError):
    """No answer came: nothing listens there, the connection broke, or the time ran out."""


class ScoringError(ServerError):
    """The entry script failed at a request, or the request was refused before it came to it.

    Parameters
    ----------
    request_id
        What the tier called the request, and its log too.
    traceback
        The script's own; empty where it did not fail.
    """

    def __init__(
        self, message: str, *, status: int, request_id: str = "", traceback: str = "", hint: str = "", logs: str = ""
    ) -> None:
        super().__init__(message, status=status, hint=hint, logs=logs)
        self.request_id = request_id
        self.traceback = traceback


class RequestRefusedError(InferenceError, ServerError):
    """The server, or the model in it, answered an inference request with an error."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or the Interrupt button, after what the cell had begun was stopped.

    Parameters
    ----------
    message
        What was stopped and what is left running.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"Interrupted: {self}"]


def nearest(word: str, words: Iterable[str]) -> str:
    """Return a hint that names the nearest of ``words`` to ``word``, or lists them all.

    Parameters
    ----------
    word
        What was given.
    words
        The right words.
    """
    import difflib  # noqa: PLC0415  (only a mistake needs it; `%load_ext` must stay quick)

    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known)}." if known else ""
