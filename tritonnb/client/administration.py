"""Calls that show and change a server's own settings: tracing, logging, shared memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from tritonnb.client.paths import model_path, quoted
from tritonnb.errors import ServerError, SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NO_CUDA = (400, 500, 501)
_NO_TRACE_FILE = "trace file name is not given"  # Triton 2.51


class Administration(ABC):
    """The part of a `Client` that is about the server's settings. Where there is a key, all of it needs the key."""

    @abstractmethod
    def _ask(self, method: str, path: str, content: object = None) -> Any:
        """Send a request and return what the JSON of the answer says."""

    def trace_settings(self, model: str = "") -> dict[str, Any]:
        """Return how requests are traced: the server's settings, or one model's."""
        return dict(self._ask("GET", _trace(model)))

    def update_trace_settings(self, model: str = "", **settings: object) -> dict[str, Any]:
        """Change how requests are traced, and return all settings.

        Parameters
        ----------
        model
            Change them for this model alone.
        **settings
            Triton's own: trace_level, trace_rate, trace_count, log_frequency. None clears a setting: a model follows
            the server again, the server what it was started with.

        Raises
        ------
        SpecError
            There is no such setting. (Triton itself passes over it.)
        """
        _check_known(settings, self.trace_settings(model), "trace")
        texts: dict[str, Any] = {
            name: [*map(str, value)] if isinstance(value, (list, tuple)) else value if value is None else str(value)
            for name, value in settings.items()
        }
        if isinstance(texts.get("trace_level"), str):
            texts["trace_level"] = [texts["trace_level"]]  # always a list, even of one
        try:
            return dict(self._ask("POST", _trace(model), texts))
        except ServerError as error:
            if _NO_TRACE_FILE in error.message:
                error.hint = (
                    'a server traces if it was started with `server.flags: {trace-config: "triton,file=PATH"}`.'
                )
            raise

    def log_settings(self) -> dict[str, Any]:
        """Return what the server writes into its log."""
        return dict(self._ask("GET", "v2/logging"))

    def update_log_settings(self, **settings: object) -> dict[str, Any]:
        """Change what the server writes into its log, and return all settings.

        Parameters
        ----------
        **settings
            Triton's own: log_verbose_level, log_info, log_warning, log_error, log_format.

        Raises
        ------
        SpecError
            There is no such setting. (Triton itself passes over it.)
        """
        _check_known(settings, self.log_settings(), "log")
        return dict(self._ask("POST", "v2/logging", settings))

    def system_shared_memory(self, region: str = "") -> list[dict[str, Any]]:
        """Return the regions of system shared memory that are registered, or one of them: name, key, offset, size."""
        return list(self._ask("GET", f"{_region('system', region)}/status"))

    def register_system_shared_memory(self, region: str, key: str, byte_size: int, offset: int = 0) -> None:
        """Make a region known to the server.

        Parameters
        ----------
        region
            What requests call it.
        key
            The name of the POSIX shared memory object, with its leading slash.
        byte_size, offset
            Which part of it.
        """
        self._ask(
            "POST", f"{_region('system', region)}/register", {"key": key, "offset": offset, "byte_size": byte_size}
        )

    def unregister_system_shared_memory(self, region: str = "") -> None:
        """Make the server forget a region, or all of them."""
        self._ask("POST", f"{_region('system', region)}/unregister", {})

    def cuda_shared_memory(self, region: str = "") -> list[dict[str, Any]]:
        """Return the regions of a GPU's memory that are registered, or one of them: name, device_id, byte_size."""
        return list(self._ask("GET", f"{_region('cuda', region)}/status"))

    def register_cuda_shared_memory(self, region: str, raw_handle: bytes, byte_size: int, device_id: int = 0) -> None:
        """Make a region of a GPU's memory known to the server.

        Parameters
        ----------
        region
            What requests call it.
        raw_handle
            The 64 bytes of its ``cudaIpcMemHandle_t``.
        byte_size
            Its size.
        device_id
            The GPU that it is on.

        Raises
        ------
        ServerError
            The server cannot open it: most often because it sees no GPU.
        """
        content = {
            "raw_handle": {"b64": b64encode(raw_handle).decode()},
            "device_id": device_id,
            "byte_size": byte_size,
        }
        try:
            self._ask("POST", f"{_region('cuda', region)}/register", content)
        except ServerError as error:
            if error.status in _NO_CUDA:
                error.hint = "only a server with a GPU, on the machine of the GPU's memory, can open it."
            raise

    def unregister_cuda_shared_memory(self, region: str = "") -> None:
        """Make the server forget a region of a GPU's memory, or all of them."""
        self._ask("POST", f"{_region('cuda', region)}/unregister", {})


def _trace(model: str) -> str:
    return f"{model_path(model) if model else 'v2'}/trace/setting"


def _region(kind: str, region: str) -> str:
    return f"v2/{kind}sharedmemory" + (f"/region/{quoted(region)}" if region else "")


def _check_known(settings: Mapping[str, object], known: Iterable[str], kind: str) -> None:
    for name in settings:
        if name not in known:
            raise SpecError(f"there is no {kind} setting {name!r}.", hint=nearest(name, known))
