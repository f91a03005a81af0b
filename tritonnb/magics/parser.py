"""How the line of a magic is read: strictly, with help, and with ``$name`` for what the notebook holds."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import TYPE_CHECKING, Any, NoReturn

from tritonnb.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXPRESSION = re.compile(r"\$\{([^}]+)\}")
_VARIABLE = re.compile(r"\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<expression>[^}]+)\})")


class HelpShown(Exception):  # noqa: N818  (not an error: `--help` was asked for and has been printed)
    """``--help`` was asked for; there is nothing more to do."""


class _ShowHelp(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        parser.print_help()
        raise HelpShown


class MagicParser(argparse.ArgumentParser):
    """The options of one magic.

    Differs from argparse where notebooks need it: no abbreviations (a later option would break an old cell), errors
    that are `UsageError` and not the end of the process, and the nearest right name for a wrong one.

    Parameters
    ----------
    name
        The magic with its percent signs.
    description
        What it does.
    examples
        Lines to show at the end of the help.
    """

    def __init__(self, name: str, description: str, examples: str = "") -> None:
        super().__init__(
            prog=name,
            description=description,
            epilog=f"examples:\n{examples}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.add_argument("-h", "--help", action=_ShowHelp, nargs=0, help="show this help")

    def parse(self, line: str, namespace: Mapping[str, Any]) -> argparse.Namespace:
        """Read the line of a magic.

        Parameters
        ----------
        line
            Words and options as in a shell; a ``#`` begins a comment.
        namespace
            What ``$name`` and ``${expression}`` stand for. They are replaced by their text, but for `Reference`
            arguments, which take the object itself.

        Raises
        ------
        UsageError
            The line does not follow the options.
        """
        try:
            words = _split(line.rstrip().removesuffix(";"))
        except ValueError as error:
            raise UsageError(f"{self.prog}: {error} in: {line}", hint="close the quote.") from None
        options, unknown = self.parse_known_args(words)
        if unknown:
            self._refuse(unknown[0])
        for name, value in vars(options).items():
            setattr(options, name, _expanded(value, namespace))
        return options

    def option(self, name: str) -> argparse.Action | None:
        """Return an option by its short or long name."""
        return self._option_string_actions.get(name)

    def options(self) -> dict[str, argparse.Action]:
        """Return the options by their long names."""
        return {name: action for name, action in self._option_string_actions.items() if name.startswith("--")}

    def positionals(self) -> list[argparse.Action]:
        """Return the arguments that are no options, in their order."""
        return self._get_positional_actions()

    def _refuse(self, word: str) -> NoReturn:
        option = word.partition("=")[0]
        if option.startswith("-"):
            raise UsageError(f"{self.prog}: unknown option {option}.", hint=nearest(option, self.options()))
        raise UsageError(
            f"{self.prog}: unexpected {word!r}.", hint=f"`{self.prog.lstrip('%')} --help` shows the options."
        )

    def error(self, message: str) -> NoReturn:
        """Turn argparse's own errors into ours (it would end the process)."""
        raise UsageError(f"{self.prog}: {message}.", hint=" ".join(self.format_usage().split()))


class Reference(str):
    """The text of an argument whose ``$name`` stands for the object and not for its text."""

    __slots__ = ()

    @property
    def expression(self) -> str:
        """The Python expression of ``input=$name`` or ``input=${expression}``; empty where the value is text."""
        variable = _VARIABLE.fullmatch(self.partition("=")[2])
        return (variable["name"] or variable["expression"]) if variable else ""

    def resolve(self, namespace: Mapping[str, Any]) -> tuple[str, Any]:
        """Split ``input=value`` and return the input's name and its value: an object, or text as it stands."""
        name, equals, value = self.partition("=")
        if not equals or not name:
            raise UsageError(
                f"{str(self)!r} is not input=value.", hint="write an input as `name=$array` or `name=[1, 2]`."
            )
        variable = _VARIABLE.fullmatch(value)
        return name, (_value(variable, namespace) if variable else value)


def is_silenced(line: str) -> bool:
    """Tell whether a line ends in ``;``: its result is not to be shown."""
    return line.rstrip().endswith(";")


def _split(line: str) -> list[str]:
    """Split a line as a shell does, but for ``${expression}``, which stays whole with its quotes and spaces."""
    whole = _EXPRESSION.findall(line)
    numbers = iter(range(len(whole)))
    words = shlex.split(_EXPRESSION.sub(lambda _: f"${{{next(numbers)}}}", line), comments=True)
    return [_EXPRESSION.sub(lambda number: f"${{{whole[int(number[1])]}}}", word) for word in words]


def _expanded(value: Any, namespace: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_expanded(item, namespace) for item in value]
    if isinstance(value, str) and not isinstance(value, Reference):
        return _VARIABLE.sub(lambda variable: str(_value(variable, namespace)), value)
    return value


def _value(variable: re.Match[str], namespace: Mapping[str, Any]) -> Any:
    if expression := variable["expression"]:
        try:
            return eval(expression, dict(namespace))  # noqa: S307  (the user's own code in the user's own notebook)
        except Exception as error:
            raise UsageError(f"${{{expression}}} failed: {type(error).__name__}: {error}") from error
    name = variable["name"]
    if name not in namespace:
        visible = (known for known in namespace if not known.startswith("_"))
        raise UsageError(f"${name}: no variable of this name.", hint=nearest(name, visible) if namespace else "")
    return namespace[name]
