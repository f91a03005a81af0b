import pytest


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of tritonnb with nothing in it."""
    folder = tmp_path / "home"
    monkeypatch.setenv("TRITONNB_HOME", str(folder))
    return folder
