"""The command line of a tritonserver."""

from __future__ import annotations

from tritonnb.engines.options import options
from tritonnb.spec import Spec


def line_of(**flags) -> list[str]:
    spec = Spec.from_options(name="flags", server={"flags": flags})
    return options(spec, "KEY", "/models", "prefix_", {"http-port": "1"})


def test_a_users_flag_replaces_ours_and_backend_configurations_add_up():
    line = line_of(**{"http-port": 8000, "backend-config": ["python,a=1", "python,b=2"]})
    assert "--http-port=8000" in line
    assert "--http-port=1" not in line
    assert [option for option in line if option.startswith("--backend-config=")] == [
        "--backend-config=python,shm-region-prefix-name=prefix_",
        "--backend-config=python,a=1",
        "--backend-config=python,b=2",
    ]


def test_a_flag_without_a_value_is_given_as_such():
    assert "--disable-auto-complete-config" in line_of(**{"disable-auto-complete-config": ""})


def test_without_auth_only_administration_needs_the_key():
    (restricted,) = [option for option in line_of() if option.startswith("--http-restricted-api=")]
    assert restricted == "--http-restricted-api=model-repository,shared-memory,trace,logging:Authorization=Bearer KEY"
