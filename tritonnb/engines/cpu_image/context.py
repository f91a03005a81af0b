"""The build context of the CPU image: a tar of the engine environment's files, laid out as the image has them."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tritonnb.environments import EngineEnvironment

COMPILED = ("**/__pycache__",)  # names this machine's paths; the image compiles its own
# What the environment has and the image does not need, by path in site-packages.
LEFT_OUT = (
    *COMPILED,
    "_distutils_hack",
    "distutils-precedence.pth",
    "nvidia_pytriton*",  # the server's libraries are laid out apart
    "pip",
    "pip-*",
    "pytriton",
    "setuptools",
    "setuptools-*",
    "tritonnb.pth",
    "onnxruntime/capi/libonnxruntime.so*",  # for C++ programs; the Python module holds all of it once more
    "onnxruntime/tools",
    "onnxruntime/transformers",  # rewrites models, does not run them
    "numpy/**/tests",
)

# Our packages come before whatever the base has of its own.
PATH_LINE = b"""\
import sys; at = next((i for i, p in enumerate(sys.path) if p.endswith("-packages")), len(sys.path)); \
sys.path[at:at] = ["/opt/tritonnb/extra", "/opt/tritonnb/packages"]
"""
PROGRAMS = {"tritonserver", "triton_python_backend_stub"}


def write_context(
    target: BinaryIO, environment: EngineEnvironment, extra: Path, written: Callable[[float], None]
) -> None:
    """Write the build context.

    Times, owners and modes are the same wherever it is made, so that Docker's cache knows it again.

    Parameters
    ----------
    target
        Where the tar goes.
    environment
        The engine environment that it is made from.
    extra
        A folder with further Python packages; may be empty.
    written
        Told how much of it is written, 0 to 1.
    """
    sources = {"server" / path: source for path, source in _server(environment)}
    sources |= {"extra" / path: source for path, source in _packages(extra, COMPILED)}
    sources[PurePosixPath("Dockerfile")] = files("tritonnb.engines.cpu_image").joinpath("Dockerfile").read_bytes()
    with tarfile.open(fileobj=target, mode="w") as tar:
        folder = tarfile.TarInfo("extra")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for count, (path, source) in enumerate(sources.items()):
            content = without_symbols(source if isinstance(source, bytes) else source.read_bytes())
            entry = tarfile.TarInfo(str(path))
            entry.size, entry.mode = len(content), 0o755 if path.name in PROGRAMS else 0o644
            tar.addfile(entry, io.BytesIO(content))
            written(count / len(sources))


def _server(environment: EngineEnvironment) -> Iterator[tuple[PurePosixPath, Path | bytes]]:
    triton, ours = PurePosixPath("opt/tritonserver"), PurePosixPath("opt/tritonnb")
    yield triton / "bin" / "tritonserver", environment.tritonserver
    for file in environment.backend_files:
        if not os.access(file, os.R_OK):  # tritonserver leaves a stub that it has run executable only
            file.chmod(0o755)
        yield triton / "backends" / "python" / file.name, file
    yield triton / "backends" / "onnxruntime" / "model.py", _foreign("onnxruntime_backend.py")
    cache = environment.tritonserver.parent.parent / "caches" / "local" / "libtritoncache_local.so"
    yield triton / "caches" / "local" / cache.name, cache
    for file in sorted((environment.site_packages / "nvidia_pytriton.libs").iterdir()):
        # The wheel's own libpython is of another release series, for the one stub that finds no other.
        if not file.name.startswith("libpython"):
            yield triton / "lib" / file.name, file
    for licence in environment.site_packages.glob("nvidia_pytriton-*.dist-info/licenses/*"):
        yield triton / licence.name, licence

    yield ours / "image_setup.py", _foreign("image_setup.py")
    yield ours / "python-version", environment.interpreter.minor.encode()
    yield ours / "tritonnb.pth", PATH_LINE + (environment.site_packages / "tritonnb.pth").read_bytes()
    for path, file in _packages(environment.site_packages, LEFT_OUT):
        yield ours / "packages" / path, file


def _foreign(name: str) -> bytes:
    return files("tritonnb").joinpath("foreign", name).read_bytes()


def _packages(folder: Path, patterns: Iterable[str]) -> Iterator[tuple[PurePosixPath, Path]]:
    left_out = {path for pattern in patterns for path in folder.glob(pattern)}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and left_out.isdisjoint((path, *path.parents)):
            yield PurePosixPath(path.relative_to(folder)), path


def without_symbols(content: bytes) -> bytes:
    """Cut a program's or library's symbol table and debug information off, without the tools that do so.

    They stand behind everything that is ever loaded, and the section headers that name them are read by debuggers
    only. Of the extension modules in the engine's wheels they are 45 MB. Anything else is returned as it is.

    Source: System V ABI, chapters "ELF header" and "Program header".
    """
    if content[:5] != b"\x7fELF\x02":  # not of 64 bits
        return content
    (table,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    end = table + size * count
    for entry in range(table, end, size):
        (offset,) = struct.unpack_from("<Q", content, entry + 8)
        (length,) = struct.unpack_from("<Q", content, entry + 32)
        end = max(end, offset + length)
    cut = bytearray(content[:end])
    cut[40:48] = bytes(8)  # where the section headers are
    cut[60:64] = bytes(4)  # how many they are, and which of them holds their names
    return bytes(cut)
