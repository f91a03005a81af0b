"""YAML read so that every key and every problem can be named by line and column."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

# Aliases can repeat one another without end ("billion laughs"); no spec that a person wrote is so long.
_MOST_NODES = 20_000

Position = tuple[int, int]
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Located:
    """What a YAML text says, and where.

    Parameters
    ----------
    value
        Plain Python values; None for an empty text and for one with an error in its syntax.
    positions
        Line and column, from 1, of each mapping's key and each list's item, by its path from the root.
    problems
        Errors in syntax and keys given twice, with their positions.
    """

    value: Any
    positions: dict[KeyPath, Position] = field(default_factory=dict)
    problems: list[tuple[Position, str]] = field(default_factory=list)


def read_yaml(text: str) -> Located:
    """Read one YAML document.

    Keys are taken as text as they are written (``on``, ``1``), because every key of a spec is a name.

    Parameters
    ----------
    text
        The YAML document.

    Returns
    -------
    Located
        The value with its positions. Nothing is raised for a wrong text: its problems are listed.
    """
    try:
        loader = yaml.SafeLoader(text)
        reader = _Reader(loader)
        root = loader.get_single_node()
        value = None if root is None else reader.value(root, ())
    except yaml.MarkedYAMLError as error:
        return Located(None, problems=[_syntax_problem(error)])
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        return Located(None, problems=[((line, column), f"{error.reason} (U+{error.character:04X})")])
    except RecursionError:
        return Located(None, problems=[((1, 1), "nested too deeply, or an alias (*) inside of its own anchor (&)")])
    return Located(value, reader.positions, reader.problems)


class _Reader:
    """Turns YAML nodes into values and notes where each was."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._nodes = 0
        self.positions: dict[KeyPath, Position] = {}
        self.problems: list[tuple[Position, str]] = []

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """Return the value of a node, noting the positions of all below it."""
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise yaml.MarkedYAMLError(problem="too large a document", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            values = []
            for index, item in enumerate(node.value):
                self.positions[*path, index] = _position(item)
                values.append(self.value(item, (*path, index)))
            return values
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError) as error:  # PyYAML 6 lets these through: 2020-99-99, !!bool maybe
            problem = f"{node.value!r:.40} is no {node.tag.rpartition(':')[2]}: {error}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        first_lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key.start_mark)
            line, _ = _position(key)
            if key.value in first_lines:
                seen = f"key {key.value!r} is given twice (first on line {first_lines[key.value]})"
                self.problems.append((_position(key), seen))
            first_lines.setdefault(key.value, line)
        self._loader.flatten_mapping(node)  # merge keys (<<)
        values = {}
        for key, item in node.value:
            self.positions[*path, key.value] = _position(key)
            values[key.value] = self.value(item, (*path, key.value))
        return values


def _position(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _syntax_problem(error: yaml.MarkedYAMLError) -> tuple[Position, str]:
    mark = error.problem_mark or error.context_mark
    position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = error.problem or str(error)
    if problem.startswith("but ") and error.context:
        problem = f"{error.context}, {problem}"
    if "'\\t'" in problem:
        problem += "; YAML is indented with spaces"
    elif "mapping values are not allowed" in problem:
        problem += "; put a text that holds ': ' in quotes, and indent the keys of one level alike"
    return position, problem
