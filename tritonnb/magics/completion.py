"""What the Tab key offers on the line of a magic: its options, deployments, models and inputs, and nothing else."""

from __future__ import annotations

import glob
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from tritonnb.magics.options import PARSERS, PICTURES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from IPython.core.completer import CompletionContext, Matcher, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

    from tritonnb.client import Client
    from tritonnb.endpoint import Endpoint
    from tritonnb.magics.parser import MagicParser

#: How long the server may take to answer before its models and inputs are not offered, in seconds.
PATIENCE_S = 0.3
IDENTIFIER = "tritonnb"
_LINE = re.compile(r"^\s*(?:[\w\s,.\[\]'\"]+=\s*)?(?P<percents>%%?)(?P<magic>triton_\w+)\s+(?P<arguments>.*)$")
_FILES = (".onnx", ".yaml", ".yml", ".pbtxt")


def register(shell: InteractiveShell) -> None:
    """Offer completions in a shell from now on."""
    unregister(shell)
    shell.Completer.custom_matchers.append(_matcher(shell))


def unregister(shell: InteractiveShell) -> None:
    """Offer completions no longer."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [m for m in matchers if getattr(m, "matcher_identifier", "") != IDENTIFIER]


def _matcher(shell: InteractiveShell) -> Matcher:
    @context_matcher(identifier=IDENTIFIER)  # type: ignore[untyped-decorator]  # IPython's is a partial
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        try:
            found = _LINE.match(context.text_until_cursor)
            if not found or found["magic"] not in PARSERS:
                return {"completions": []}
            fragment, words = offers(found["magic"], found["arguments"], shell.user_ns, cell=found["percents"] == "%%")
        except Exception:  # noqa: BLE001  (IPython would print its traceback into the line that is being typed)
            return {"completions": []}
        completions: Any = [SimpleCompletion(word) for word in words] or _Nothing()
        return {"completions": completions, "matched_fragment": fragment, "suppress": True}

    return matcher  # type: ignore[no-any-return]  # as above


class _Nothing:
    """No completions: where a list is empty, IPython (9.18) asks its other matchers, which offer Python's names."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[SimpleCompletion]:
        return iter(())


def offers(magic: str, arguments: str, namespace: Mapping[str, Any], *, cell: bool = False) -> tuple[str, list[str]]:
    """Return what may be written at the end of a magic's line.

    Parameters
    ----------
    magic
        Its name without percent signs.
    arguments
        What stands on the line up to the cursor.
    namespace
        The notebook's variables.
    cell
        Whether it is the magic's first line in a cell.

    Returns
    -------
    tuple of str and list of str
        The part of the line that is to be replaced, and the words for it.
    """
    *before, word = arguments.split(" ")
    line = _Line.read(PARSERS[magic], [part for part in before if part], cell=cell)
    option, equals, value = word.partition("=")
    if word.startswith("-") and equals:
        return value, _values(line.parser.option(option), value, line, namespace)
    if line.expects:
        return word, _values(line.expects, word, line, namespace)
    if word.startswith("-"):
        return word, _starting(word, line.options())
    action = line.positional()
    if action and action.dest == "inputs" and equals:
        return value, [*_starting(value, _variables(namespace)), *(_paths(value, PICTURES) if value else [])]
    return word, [*_values(action, word, line, namespace), *([] if word else line.options())]


@dataclass(frozen=True)
class _Line:
    """The finished words of a line, as its parser will see them."""

    parser: MagicParser
    positionals: tuple[str, ...]
    values: Mapping[str, str]
    expects: argparse.Action | None
    cell: bool

    @classmethod
    def read(cls, parser: MagicParser, words: Iterable[str], *, cell: bool) -> _Line:
        positionals, values = [], {}
        expects: argparse.Action | None = None
        for word in words:
            option, equals, value = word.partition("=")
            if expects:
                values[expects.dest] = word
                expects = None
            elif action := parser.option(option):
                values[action.dest] = value
                expects = action if action.nargs != 0 and not equals else None
            else:
                positionals.append(word)
        return cls(parser, tuple(positionals), values, expects, cell)

    def options(self) -> list[str]:
        """Return the options that the line does not have yet."""
        return [name for name, action in self.parser.options().items() if action.dest not in self.values]

    def positional(self) -> argparse.Action | None:
        """Return the positional argument that the next word is."""
        actions = self.parser.positionals()
        repeated = [action for action in actions if action.nargs in ("*", "+")]
        return next(iter([*actions[len(self.positionals) :], *repeated]), None)

    def takes_registered(self) -> bool:
        """Tell whether a source may be a registered model, and not only what is about to become one."""
        return all(action.dest != "registered" for action in self.parser.positionals())

    def names_deployment(self, action: argparse.Action) -> bool:
        """Tell whether an argument is a deployment's name; on a cell the source is."""
        positional_name = action.dest == "name" and not action.option_strings
        return action.dest == "on" or positional_name or (action.dest == "source" and self.cell)


def _values(action: argparse.Action | None, word: str, line: _Line, namespace: Mapping[str, Any]) -> list[str]:
    """Return what the value of an argument may be, of that what begins with a word."""
    if action is None:
        return []
    if action.dest == "source" and not line.cell:
        return [*_paths(word), *_starting(word, _registered(word) if line.takes_registered() else [])]
    if action.dest in {"config", "entry_script", "source_directory"}:
        return _paths(word, (".py",) if action.dest == "entry_script" else _FILES)
    if action.dest == "registered":
        values = _registered(word)
    elif action.choices:
        values = list(action.choices)
    elif line.names_deployment(action):
        values = _deployments()
    elif action.dest in _ASKED:
        model = line.positionals[0] if line.positionals else ""
        values = _asked(line.values.get("on"), lambda client: _ASKED[action.dest](client, model))
    elif action.dest == "key":
        values = _variables(namespace)
    elif action.dest == "verb":
        values = [name.removeprefix("triton_") for name in PARSERS]
    else:
        values = []
    taken = {re.sub("=.*", "=", given) for given in line.positionals}
    return _starting(word, [value for value in values if value not in taken])


#: What only the server knows, by the argument that takes it; asked with the model that the line names first.
_ASKED: dict[str, Callable[[Client, str], list[str]]] = {
    "model": lambda client, _: [state.name for state in client.repository_index()],
    "models": lambda client, _: [state.name for state in client.repository_index()],
    "model_version": lambda client, model: list(client.metadata(model).versions),
    "inputs": lambda client, model: [f"{tensor.name}=" for tensor in client.metadata(model).inputs],
    "outputs": lambda client, model: [tensor.name for tensor in client.metadata(model).outputs],
}


def _starting(word: str, words: Iterable[str]) -> list[str]:
    return sorted({each for each in words if each.startswith(word)})


def _paths(word: str, suffixes: Sequence[str] = _FILES) -> list[str]:
    """Return the folders, and the files of some kinds, whose paths begin with a word."""
    found = (Path(path) for path in glob.glob(f"{glob.escape(word)}*"))  # noqa: PTH207  (keeps the path as it is typed)
    return sorted(
        f"{path}/" if path.is_dir() else str(path) for path in found if path.is_dir() or path.suffix.lower() in suffixes
    )


def _variables(namespace: Mapping[str, Any]) -> list[str]:
    """Return ``$name`` for the notebook's own values: no functions, classes, modules or IPython's names."""
    return [
        f"${name}"
        for name, value in namespace.items()
        if not (name.startswith("_") or callable(value) or isinstance(value, ModuleType) or name in ("In", "Out"))
    ]


def _deployments() -> list[str]:
    from tritonnb.records import records  # noqa: PLC0415  (only where names are asked for)

    return [*_endpoints(), *(record.name for record in records() if record.keep)]


def _registered(word: str) -> list[str]:
    """Return the names of the registered models, with their versions once a colon is typed."""
    from tritonnb.registry import registered  # noqa: PLC0415  (only where names are asked for)

    found = registered()
    return [model.id if ":" in word else model.name for model in found]


def _endpoints() -> dict[str, Endpoint]:
    """Return where this kernel's deployments answer, the latest last; nothing is imported for it."""
    current = sys.modules.get("tritonnb.handle.current")
    return {handle.name: handle.endpoint for handle in current.deployments()} if current else {}


def _asked(on: str | None, ask: Callable[[Client], list[str]]) -> list[str]:
    """Return a server's answer, or nothing where it does not come at once."""
    endpoints = _endpoints()
    endpoint = endpoints.get(on) if on else next(reversed(endpoints.values()), None)
    answer: list[str] = []
    if not endpoint:
        return answer
    from tritonnb.client import Client  # noqa: PLC0415  (imported already by whoever deployed)
    from tritonnb.errors import TritonNbError  # noqa: PLC0415

    def work() -> None:
        try:
            with Client(endpoint, timeout=PATIENCE_S) as client:
                answer.extend(ask(client))
        except TritonNbError:  # nothing is offered then
            pass

    # A thread: its call may try to connect, connect again and read, each within the client's own time.
    worker = threading.Thread(target=work, name="tritonnb-completion", daemon=True)
    worker.start()
    worker.join(PATIENCE_S)
    return list(answer)
