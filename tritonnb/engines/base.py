"""What every engine offers to the deployment above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tritonnb.endpoint import Endpoint
    from tritonnb.environments import Report
    from tritonnb.errors import EngineError


class Engine(Protocol):
    """A tritonserver that can be started, watched and stopped."""

    name: str
    why: str  # it was chosen; empty where the spec names it
    endpoint: Endpoint

    def prepare(self, report: Report) -> None:
        """Get what the engine needs before it can start a server, and tell how that goes."""

    def start(self) -> None:
        """Start the server for the models staged in the deployment's folder."""

    def attach(self, endpoint: Endpoint) -> None:
        """Take over the server that already runs in the deployment's folder."""

    def failure(self) -> EngineError | None:
        """Return why the server no longer runs, or None while it does."""

    @property
    def starting_again(self) -> bool:
        """Whether the server failed and is about to be started again."""

    @property
    def restarts(self) -> int:
        """How often the server was started again after a failure."""

    def watch(self, model: str, instances: int) -> None:
        """From now on notice when a process of ``model`` dies; called when it has become ready, with so many."""

    def forget(self, model: str) -> None:
        """No longer watch ``model``; called before it is unloaded or loaded anew."""

    def lost_processes(self) -> dict[str, str]:
        """Return, by model, what was lost of it since it became ready: Triton itself keeps calling it ready."""

    def memory_bytes(self) -> int | None:
        """Return the memory that the server and its processes take now; None where it runs no more."""

    def logs(self) -> str:
        """Return the server's log so far."""

    def stop(self) -> None:
        """Stop the server and remove all that was made for it. May be called again."""
