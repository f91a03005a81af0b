import pytest


@pytest.fixture
def make(tmp_path, square):
    """Return a function that makes files of the given paths: ONNX models of `.onnx` files, folders of `x/`."""

    def make_files(*paths, text="", root="models"):
        for path in paths:
            file = tmp_path / root / path
            if path.endswith("/"):
                file.mkdir(parents=True)
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(square if path.endswith(".onnx") else text.encode())
        return tmp_path / root

    return make_files
