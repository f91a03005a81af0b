"""The README's table of the spec says what the spec and the magics have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from tritonnb.magics.options import PARSERS
from tritonnb.spec import _AZURE_WORDS, Score, Spec

README = (Path(__file__).parent.parent / "README.md").read_text()
SECTIONS = {"score": Score}  # optional, so its default does not show its class

TABLE = README.partition("## The spec")[2].partition("\n## ")[0]
ROWS = {
    cells[0].strip("`"): cells
    for line in TABLE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}


def fields() -> list[str]:
    names = []
    for name, field in Spec.model_fields.items():
        section = SECTIONS.get(name) or (type(field.default) if isinstance(field.default, BaseModel) else None)
        names += [f"{name}.{below}" for below in section.model_fields] if section else [name]
    return names


def test_every_field_of_the_spec_has_its_row_in_order():
    assert list(ROWS) == fields()


def test_every_option_named_is_one_of_the_magic_s():
    named = {word for row in ROWS.values() for word in re.findall(r"--[\w-]+", row[2])}
    assert named
    for option in named:
        assert option in PARSERS["triton_deploy"].format_help()


@pytest.mark.parametrize(("word", "target"), _AZURE_WORDS.items())
def test_every_word_of_azure_ml_that_is_accepted_stands_at_its_field(word, target):
    assert ROWS[".".join(target)][3] == f"`{word}`"


def test_no_other_word_of_azure_ml_is_said_to_be_accepted():
    accepted = {word for row in ROWS.values() for word in re.findall(r"`(\w+)`", row[3])}
    assert accepted == set(_AZURE_WORDS)
