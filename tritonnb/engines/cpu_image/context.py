"""The build context of the CPU image: a tar of the engine environment's files, laid out as the image has them."""

from __future__ import annotations

import io
import struct
import tarfile
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tritonnb.environments import EngineEnvironment

# What the environment has and the image does not need, by path in site-packages.
LEFT_OUT = (
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
    "numpy/**/tests",
    "**/__pycache__",  # names this machine's paths; the image compiles its own
)

# Before whatever packages the base has of its own.
PATH_LINE = """\
import sys; at = next((i for i, p in enumerate(sys.path) if p.endswith("-packages")), len(sys.path)); \
sys.path[at:at] = ["/opt/tritonnb/extra", "/opt/tritonnb/packages"]
"""


def write_context(
    target: BinaryIO, environment: EngineEnvironment, extra: Path | None, done: Callable[[float], None]
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
        A folder with further Python packages.
    done
        Told how much of it is written, 0 to 1.
    """
    server, packages = PurePosixPath("opt/tritonserver"), PurePosixPath("opt/tritonnb")
    triton = environment.site_packages / "pytriton" / "tritonserver"
    sources: dict[PurePosixPath, Path | bytes] = {
        server / "bin" / "tritonserver": environment.tritonserver,
        server / "caches" / "local" / "libtritoncache_local.so": triton
        / "caches"
        / "local"
        / "libtritoncache_local.so",
        server / "backends" / "onnxruntime" / "model.py": _foreign("onnxruntime_backend.py"),
        packages / "image_setup.py": _foreign("image_setup.py"),
        packages / "python-version": environment.interpreter.minor.encode(),
        packages / "tritonnb.pth": PATH_LINE.encode() + (environment.site_packages / "tritonnb.pth").read_bytes(),
    }
    for file in environment.backend_files:
        sources[server / "backends" / "python" / file.name] = file
    for file in sorted((environment.site_packages / "nvidia_pytriton.libs").iterdir()):
        # Of the wheel's stub for the newest Python only, which has no other libpython to find.
        if not file.name.startswith("libpython"):
            sources[server / "lib" / file.name] = file
    for licence in environment.site_packages.glob("nvidia_pytriton-*.dist-info/licenses/*"):
        sources[server / licence.name] = licence
    sources |= {packages / "packages" / path: file for path, file in _packages(environment.site_packages)}
    if extra:
        sources |= {packages / "extra" / path: file for path, file in _packages(extra)}

    programs = {"tritonserver", "triton_python_backend_stub"}
    with tarfile.open(fileobj=target, mode="w") as tar:
        _add(
            tar,
            PurePosixPath("Dockerfile"),
            files("tritonnb.engines.cpu_image").joinpath("Dockerfile").read_bytes(),
            0o644,
        )
        for count, (path, source) in enumerate(sources.items()):
            content = source if isinstance(source, bytes) else source.read_bytes()
            _add(tar, "files" / path, without_symbols(content), 0o755 if path.name in programs else 0o644)
            done(count / len(sources))


def _foreign(name: str) -> bytes:
    return files("tritonnb").joinpath("foreign", name).read_bytes()


def _packages(folder: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    left_out = {path for pattern in LEFT_OUT for path in folder.glob(pattern)}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and left_out.isdisjoint((path, *path.parents)):
            yield PurePosixPath(path.relative_to(folder)), path


def _add(tar: tarfile.TarFile, path: PurePosixPath, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(str(path))
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def without_symbols(content: bytes) -> bytes:
    """Cut a program's or library's symbol table and debug information off, without the tools that do so.

    They stand behind everything that is ever loaded, and the section headers that name them are read by debuggers
    only. Of the extension modules in the engine's wheels they make out 45 MB. Anything else is returned as it is.

    Source: ELF-64 object file format, "ELF header" and "Program header table".
    """
    if content[:5] != b"\x7fELF\x02":
        return content
    table, entry_size, count = *struct.unpack_from("<Q", content, 32), *struct.unpack_from("<HH", content, 54)
    end = max(table + entry_size * count, 64)
    for entry in range(table, table + entry_size * count, entry_size):
        offset, size = *struct.unpack_from("<Q", content, entry + 8), *struct.unpack_from("<Q", content, entry + 32)
        end = max(end, offset + size)
    cut = bytearray(content[:end])
    cut[40:48] = bytes(8)  # where the section headers are
    cut[60:64] = bytes(4)  # how many there are, and which holds their names
    return bytes(cut)
