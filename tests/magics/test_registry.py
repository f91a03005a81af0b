"""``%triton_register`` and ``%triton_registered``."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.errors import RegistryError, UsageError
from tritonnb.registry import RegisteredModel

pytestmark = pytest.mark.requires("engine")


@pytest.fixture
def name(tmp_path, square, monkeypatch):
    """A name to register as, and ``models/square`` in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "square" / "1").mkdir(parents=True)
    (tmp_path / "models" / "square" / "1" / "model.onnx").write_bytes(square)
    name = f"cells-{secrets.token_hex(3)}"
    yield name
    for model in tn.registered():
        if model.name == name:
            model.delete()


def test_a_model_is_registered_shown_found_by_its_tag_and_deleted(serving, name, capsys):
    line = f"models {name} --tag cell={name} --description 'from a cell' --framework multi --sample-input x=$x"
    model = serving.run(f"%triton_register {line} -o kept")
    assert isinstance(model, RegisteredModel)
    assert (model.id, model.framework, model.description) == (f"{name}:1", "Multi", "from a cell")
    np.testing.assert_array_equal(model.sample_input["x"], serving.shell.user_ns["x"])
    assert serving.shell.user_ns["kept"] is model
    assert serving.run(f"%triton_registered --tag cell={name}") == [model]
    assert serving.run(f"%triton_registered {name}:latest") == model
    with pytest.raises(UsageError, match="--delete needs a version"):
        serving.run(f"%triton_registered {name} --delete")
    capsys.readouterr()
    assert serving.run(f"%triton_registered {name}:1 --delete") is None
    assert capsys.readouterr().out == f"Registered model '{name}:1' deleted.\n"
    with pytest.raises(RegistryError, match=f"registered as '{name}'"):
        serving.run(f"%triton_registered {name}")


def test_a_registered_model_is_deployed_and_updated_by_its_name(serving, name):
    serving.run(f"%triton_register models {name}")
    serving.run(f"%triton_update {name} --on serving")
    assert f"square: registered as {name}:1" in repr(tn.deployment("serving"))
    with pytest.raises(RegistryError, match="is deployed: 'serving' serves it"):
        serving.run(f"%triton_registered {name}:1 --delete")
    tn.deployment("serving").update(models="models")


def test_registered_names_are_completed(serving, name):
    serving.run(f"%triton_register models {name}")
    assert serving.completions(f"%triton_deploy {name[:8]}") == [name]
    assert serving.completions(f"%triton_registered {name[:8]}") == [name]
    assert serving.completions(f"%triton_registered {name}:") == [f"{name}:1"]
    assert serving.completions("%triton_register mod") == ["models/"]
