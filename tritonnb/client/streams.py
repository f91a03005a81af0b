"""Answers that come one after another, whatever brings them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

T = TypeVar("T")


class Stream(Iterator[T]):
    """The answers of one request as they come: an iterator, and a context manager that closes it at the end.

    Closed before its end, by `close`, by Ctrl-C or because nobody holds it any more, it ends the request on the server
    too. After an error every further step raises that error again, so that what broke off never looks complete.

    Parameters
    ----------
    answers
        Gives them, and raises what went wrong.
    cancel
        Ends the request. Called once or more often, from any thread.
    """

    def __init__(self, answers: Iterator[T], cancel: Callable[[], object]) -> None:
        self._answers = answers
        self._cancel = cancel
        self._closed = False
        self._error: BaseException | None = None
        self._explained: Callable[[Callable[[], T]], T] = lambda step: step()

    def explained_by(self, explained: Callable[[Callable[[], T]], T]) -> Self:
        """Let each step be taken by ``explained``, which may raise a better reason for a failure."""
        self._explained = explained
        return self

    def __next__(self) -> T:
        return self._explained(self._step)

    def _step(self) -> T:
        if self._error:
            raise self._error
        if self._closed:
            raise StopIteration
        try:
            return next(self._answers)
        except StopIteration:
            self.close()
            raise
        except BaseException as error:
            self._error = error
            self.close()
            raise

    def close(self) -> None:
        """End the request; nothing more comes. May be called again."""
        self._closed = True
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            self.close()
