"""What the README says of the spec is true, and what it shows works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

import tritonnb as tn
from tritonnb.errors import EngineError, SpecError
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


# A value for every field that is said to come later.
LATER = {
    "kubernetes": {
        "namespace": "triton",
        "context": "lab",
        "replicas": 2,
        "max_replicas": 3,
        "storage_uri": "pvc://models",
        "image": "triton",
    },
}
SAID_LATER = [field for field, row in ROWS.items() if row[4] == "later"]


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


@pytest.mark.parametrize("field", SAID_LATER)
def test_a_field_that_is_said_to_come_later_is_refused_until_then(field, square):
    section, _, key = field.partition(".")
    value = {key: LATER[section][key]} if key else LATER[section]
    with pytest.raises(SpecError, match=rf"does not serve .*{section}"):
        tn.deploy(square, name="demo", **{section: value})


def test_a_field_that_is_said_to_be_served_is_not_refused(square, monkeypatch):
    by_docker = {field for field, row in ROWS.items() if row[4] == "by `docker`"}
    by_tests_of_scores = {field for field in ROWS if field.startswith(("environment.", "score."))}
    served = set(ROWS) - set(SAID_LATER) - by_docker - by_tests_of_scores
    assert served == {"name", "models", "repository", "engine", "auth", "keep", "restart"} | {
        f"server.{key}" for key in ("http_port", "grpc_port", "metrics_port", "flags", "env", "shared_memory")
    }
    server = {"http_port": 1, "grpc_port": 2, "metrics_port": 3, "flags": {"log-verbose": 1}, "env": {"LEVEL": "1"}}
    server["shared_memory"] = True
    monkeypatch.setenv("TRITONNB_PYTHON", "/no/python")  # the next thing that is looked at
    with pytest.raises(EngineError):
        tn.deploy(square, name="demo", engine="embedded", auth=True, keep=True, restart="on-failure", server=server)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpus", "all"),
        ("resources.cpu_cores", 1.0),
        ("resources.memory_gb", 1.0),
        ("resources.gpu_cores", 1),
        ("server.image", "triton"),
        ("server.shm_size", "2g"),
    ],
)
def test_a_field_that_docker_alone_serves_is_refused_by_the_embedded_engine_only(field, value, square, monkeypatch):
    assert ROWS[field][4] == "by `docker`"
    section, _, key = field.partition(".")
    asked = {section: {key: value} if key else value}
    with pytest.raises(SpecError, match=f"embedded engine .*{section}"):
        tn.deploy(square, name="demo", engine="embedded", **asked)
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/docker.sock")  # the next thing that is looked at
    with pytest.raises(EngineError, match=r"/no/docker\.sock"):
        tn.deploy(square, name="demo", **asked)


def test_the_cell_it_shows_is_a_spec(tmp_path):
    _, cell = re.search(r"```\n%%triton_deploy (\w+)\n(.*?)```", README, re.DOTALL).groups()
    spec = Spec.from_yaml(cell, base=tmp_path)
    assert spec.auth
    assert spec.models["classifier"].config["max_batch_size"] == 8


@pytest.mark.requires("engine")
def test_the_python_it_shows_infers(tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Egyptian cat" in done.stdout


def test_its_table_of_magics_is_the_one_that_help_shows():
    table = dict(re.findall(r"^\| `%+(triton_\w+)` \| (.*) \|$", README, re.MULTILINE))
    assert list(table.items()) == [(name, parser.description) for name, parser in PARSERS.items()]
    assert set(re.findall(r"%(triton_[a-z]+)", README)) == set(PARSERS)
