"""What a server says of itself and of its models, as methods that take and return plain values."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from tritonnb.client.administration import Administration
from tritonnb.client.listings import ModelConfig, Statistics
from tritonnb.client.paths import model_path, quoted
from tritonnb.client.results import ModelMetadata, ModelState, TensorMetadata
from tritonnb.client.transport import Transport
from tritonnb.errors import ServerError, ServerUnreachableError, SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from types import TracebackType
    from typing import Self

    from tritonnb.client.connection import Answer
    from tritonnb.endpoint import Endpoint

OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_ASK_AGAIN_AFTER_S = 1.0
_LOAD_TIMEOUT_S = 600.0  # large models take minutes, and a load that was given up goes on in the server


class Server(Administration):
    """All of a `tritonnb.client.inference.Client` but inference. Safe to use from several threads at once.

    Parameters
    ----------
    endpoint
        The server's address and the headers of its key. Nothing is sent until something is asked.
    timeout
        Seconds that a call may take.

    Raises
    ------
    SpecError
        The endpoint's URL cannot be used.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 60.0) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._transport = Transport(endpoint, timeout)
        # By model and version. A single operation on a dict each, so that threads need no lock.
        self._metadata: dict[tuple[str, str], ModelMetadata] = {}

    def live(self) -> bool:
        """Tell whether the server answers."""
        # Triton loads a model in one of the threads that serve HTTP. A connection that fell to this thread just then
        # waits until the load has ended (seen with Triton 2.51); a new one does not.
        first = min(_ASK_AGAIN_AFTER_S, self._timeout / 2)
        return any(self._is_ok("v2/health/live", timeout) for timeout in (first, self._timeout - first))

    def ready(self) -> bool:
        """Tell whether the server takes inference requests; not whether every model does."""
        return self._is_ok("v2/health/ready")

    def model_ready(self, model: str, version: str = "") -> bool:
        """Tell whether a model takes inference requests; False for one that is not known."""
        return self._is_ok(f"{model_path(model, version)}/ready")

    def server_metadata(self) -> dict[str, Any]:
        """Return the server's ``name``, ``version`` and ``extensions``."""
        said = self._ask("GET", "v2")
        with _reading("the server's metadata"):
            return dict(said)

    def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """Return what a model takes and gives, as the server says it now.

        Parameters
        ----------
        model
            The model's name.
        version
            One of its versions, else the one that the server chooses.

        Raises
        ------
        ServerError
            The model is not known or not ready; the hint names the nearest, or says why it failed.
        """
        said = self._ask_model(model, model_path(model, version))
        config = self.config(model, version)
        with _reading("a model's metadata"):
            configured = {tensor["name"]: tensor for tensor in config.get("input", ())}
            metadata = ModelMetadata(
                said["name"],
                tuple(said.get("versions", ())),
                said.get("platform", ""),
                tuple(_tensor(tensor, configured.get(tensor["name"], {})) for tensor in said.get("inputs", ())),
                tuple(_tensor(tensor, {}) for tensor in said.get("outputs", ())),
                config.get("max_batch_size", 0),
            )
        self._metadata[model, version] = metadata
        return metadata

    def config(self, model: str, version: str = "") -> ModelConfig:
        """Return a model's configuration as the server completed it (Triton's ModelConfig as JSON)."""
        said = self._ask_model(model, f"{model_path(model, version)}/config")
        with _reading("a model's configuration"):
            return ModelConfig(said)

    def statistics(self, model: str = "", version: str = "") -> Statistics:
        """Return the inference statistics of one model, or of all: counts, and times in nanoseconds."""
        path = model_path(model, version) if model else "v2/models"
        said = self._ask_model(model, f"{path}/stats") if model else self._ask("GET", f"{path}/stats")
        with _reading("statistics"):
            return Statistics(said["model_stats"])

    def repository_index(self, *, ready: bool = False) -> list[ModelState]:
        """Return the state of every version of every model in the repository, or of those alone that are ready."""
        said = self._ask("POST", "v2/repository/index", {"ready": True} if ready else {})
        from tritonnb.client.reasons import model_reason  # noqa: PLC0415  (only lists and failures need it)

        with _reading("the repository index"):
            return [
                ModelState(
                    model["name"],
                    model.get("version", ""),
                    # A model that was never loaded has no state.
                    model.get("state") or "UNAVAILABLE",
                    model_reason(model.get("reason", "")),
                )
                for model in said
            ]

    def load(
        self,
        model: str,
        *,
        config: Mapping[str, Any] | str | None = None,
        files: Mapping[str, bytes] | None = None,
        timeout: float = _LOAD_TIMEOUT_S,
    ) -> None:
        """Load a model, or load it again, and return when it is ready.

        Parameters
        ----------
        model
            Its name in the server's repository.
        config
            Triton's ModelConfig, as JSON or what JSON is made of: used instead of the repository's, until the model is
            loaded the next time.
        files
            The model's files by their path in its folder, such as ``1/model.onnx``: used instead of the repository's,
            which need not know the model. They need a ``config`` too.
        timeout
            Seconds to wait.

        Raises
        ------
        ServerError
            It cannot be loaded; the message is the model's own reason.
        SpecError
            There are files without a config.
        """
        if files and not config:
            raise SpecError(
                f"files for model {model!r} need a config too.", hint="load(model, config={...}, files=...)."
            )
        said = {f"file:{path}": b64encode(content).decode() for path, content in (files or {}).items()}
        if config:
            said["config"] = config if isinstance(config, str) else json.dumps(config)
        try:
            self._control(model, "load", timeout, {"parameters": said} if said else {})
        except ServerUnreachableError:
            raise
        except ServerError as error:
            from tritonnb.client.diagnosis import load_error  # noqa: PLC0415  (only a failure needs it)

            failed = load_error(model, error.message, status=error.status)
            failed.hint = failed.hint or error.hint
            raise failed from error

    def unload(self, model: str, *, dependents: bool = False) -> None:
        """Unload a model, with ``dependents`` also those that it is made of; running requests are finished first."""
        self._control(model, "unload", None, {"parameters": {"unload_dependents": True}} if dependents else {})

    def metadata_changed(self, model: str) -> None:
        """Forget what is known of a model, because it changes."""
        for key in [key for key in list(self._metadata) if key[0] == model]:
            self._metadata.pop(key, None)

    def close(self) -> None:
        """Close the connections of all threads. The client cannot be used any more."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.url!r})"

    def _control(self, model: str, verb: str, timeout: float | None, content: object = None) -> None:
        path = f"v2/repository/models/{quoted(model)}/{verb}"
        try:
            self._ask("POST", path, content or {}, timeout=timeout)
        finally:
            self.metadata_changed(model)

    def _is_ok(self, path: str, timeout: float | None = None) -> bool:
        try:
            return self._transport.request("GET", path, timeout=timeout).status == OK
        except ServerError:
            return False

    def _ask(self, method: str, path: str, content: object = None, *, timeout: float | None = None) -> Any:
        body = [] if content is None else [json.dumps(content).encode()]
        answer = self._transport.request(
            method,
            path,
            body,
            headers={"Content-Type": "application/json"} if body else None,
            timeout=timeout,
        )
        if answer.status != OK:
            raise error_of(answer)
        if not answer.body:
            return {}
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise ServerError(
                f"{self._transport.url} answered {method} /{path} with something other than JSON: "
                f"{bytes(answer.body[:40])!r}.",
                status=answer.status,
                hint="is it Triton that answers there?",
            ) from error

    def _ask_model(self, model: str, path: str) -> Any:
        try:
            return self._ask("GET", path)
        except ServerError as error:
            if error.status == _NOT_FOUND:
                error.hint = self._why_not(model) or error.hint
            raise

    def _why_not(self, model: str) -> str:
        """Return why a model is not served, or the nearest that is, as far as the server lets us know."""
        # The repository index needs a key of its own on some servers; then there is simply no hint.
        with contextlib.suppress(ServerError):
            states = self.repository_index()
            if mine := [state for state in states if state.name == model]:
                reason = "; ".join(filter(None, (state.reason for state in mine)))
                return f"it is in the repository, but {mine[0].state}: {reason or 'it has not been loaded'}."
            return nearest(model, {state.name for state in states})
        return ""


def _tensor(said: Mapping[str, Any], configured: Mapping[str, Any]) -> TensorMetadata:
    layout = configured.get("format", "FORMAT_NONE")
    return TensorMetadata(
        said["name"],
        said["datatype"],
        tuple(said["shape"]),
        configured.get("optional", False),
        "" if layout == "FORMAT_NONE" else layout,
    )


@contextlib.contextmanager
def _reading(what: str) -> Generator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(
            f"{what} cannot be read out of the server's answer ({type(error).__name__}: {error}).",
            hint="is it Triton that answers there?",
        ) from error


def error_of(answer: Answer) -> ServerError:
    """Return what an answer with a status other than 200 says, as an error."""
    text = answer.body.decode(errors="replace").strip()
    try:
        message = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = text[:300]
    hint = "the key is missing or wrong." if answer.status in (_UNAUTHORIZED, _FORBIDDEN) else ""
    return ServerError(message or f"the server answered with status {answer.status}.", status=answer.status, hint=hint)
