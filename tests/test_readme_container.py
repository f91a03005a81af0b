"""What the README says that `docker inspect` shows of a container is what it shows, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tritonnb as tn

pytestmark = pytest.mark.requires("engine", "docker")

README = (Path(__file__).parent.parent / "README.md").read_text()
TABLE = README.partition("What `docker inspect` shows:")[2].partition("\n\nThe container goes")[0]
ROWS = {
    cells[0].strip(): cells[1].strip()
    for line in TABLE.splitlines()
    if len(cells := line.strip("| ").split(" | ")) == 2
}

# In Docker's words, the fields that a row speaks of.
FIELDS = {
    "mount": {"Mounts"},
    "ports": {"PortBindings"},
    "user": {"User"},
    "limits": {"NanoCpus", "Memory", "MemorySwap", "ShmSize", "Ulimits"},
    "labels": {"Labels"},
    "besides": {"Init", "LogConfig", "Env", "Cmd"},
}


@pytest.fixture(scope="module")
def inspected(triton_image, docker_client, square, tmp_path_factory):
    """The container of a deployment with limits, and one that was made of the same image with nothing said."""
    (folder := tmp_path_factory.mktemp("models") / "square" / "1").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(square)
    plain = docker_client.containers.create(triton_image)
    resources = {"cpu_cores": 1, "memory_gb": 1}
    server = {"image": triton_image, "shm_size": "256m"}
    try:
        with tn.deploy(
            folder.parents[1], name="told", engine="docker", gpus="none", server=server, resources=resources
        ):
            (ours,) = docker_client.containers.list(filters={"label": "tritonnb.deployment=told"})
            yield ours.attrs, plain.attrs
    finally:
        plain.remove(v=True)


def test_nothing_else_is_asked_of_docker(inspected):
    ours, plain = ({**it["HostConfig"], **it["Config"], "Mounts": it["Mounts"]} for it in inspected)
    asked = {name for name in ours if (ours[name] or None) != (plain.get(name) or None)}
    # Chosen by Docker, and what a client that waits for it sets.
    asked -= {"Hostname", "AttachStdout", "AttachStderr"}
    assert asked == set().union(*FIELDS.values()) - ({"User"} if ours["User"] == plain["User"] else set())
    assert FIELDS.keys() | {"name", "GPUs"} == ROWS.keys()


def test_its_name_and_labels_are_those(inspected):
    ours, plain = inspected
    assert re.fullmatch(
        ROWS["name"].replace("`tritonnb-NAME-` and eight random characters", r"/tritonnb-told-.{8}"), ours["Name"]
    )
    first, *others = re.findall(r"`([\w.-]+)`", ROWS["labels"])
    promised = {first, *(first.partition(".")[0] + label for label in others)}
    assert ours["Config"]["Labels"].keys() - plain["Config"]["Labels"].keys() == promised


def test_its_environment_is_the_image_s_and_what_is_said(inspected):
    ours, plain = (set(it["Config"]["Env"]) for it in inspected)
    promised = set(re.findall(r"`(\w+=\w+)`", ROWS["besides"]))
    assert ours - plain <= promised <= ours
