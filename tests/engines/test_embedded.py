"""What only the embedded engine does."""

from __future__ import annotations

import pytest

import tritonnb as tn
from tritonnb.environments import engine_environment

pytestmark = pytest.mark.requires("engine")


def test_what_a_server_does_to_the_rights_of_its_stub_reaches_no_other(repository):
    *_, stub = engine_environment().backend_files
    before = stub.stat().st_mode
    with tn.deploy(repository, name="rights", engine="embedded") as deployment:
        own = deployment._run.folder / "backends" / "python" / stub.name
        assert own.stat().st_mode == before
        own.chmod(0o100)  # as Triton's Python backend does
        assert stub.stat().st_mode == before
