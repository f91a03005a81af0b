"""Fits the CPU image's base out for tritonserver; run by its Dockerfile, as root, with the base's Python.

The server's Python stub loads the base's libpython, finds packages through that Python's site-packages alone (it
heeds no PYTHONPATH), and was compiled for one release series of it. A base that does not fit ends the build with a
line that says so.
"""

import compileall
import ctypes
import os
import py_compile
import site
import subprocess
import sys
from pathlib import Path

FILES = Path("/opt/tritonnb")
LIBRARIES = "/opt/tritonserver/lib"
USER, NUMBER = "triton-server", 1000


def main(folder=None):
    """Compile the Python files of a folder; without one, check the base and fit it out first."""
    if not folder:
        fit_out()
    # The container's root is read-only, so what is not compiled now would be at every start. Nothing is said of the
    # files that packages bring for other Pythons.
    compileall.compile_dir(
        folder or FILES,
        quiet=2,
        workers=os.cpu_count(),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def fit_out():
    """Check the base, then register libraries, packages and the user with it."""
    wanted = (FILES / "python-version").read_text().strip()
    found = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if found != wanted:
        sys.exit(f"The base image has Python {found}, and this machine's engine has the packages for {wanted}.")
    Path("/etc/ld.so.conf.d/tritonserver.conf").write_text(f"{LIBRARIES}\n")
    subprocess.run(["ldconfig"], check=True)  # noqa: S607  (the base's own)
    for library in (f"libpython{wanted}.so.1.0", "libstdc++.so.6", "libz.so.1"):
        try:
            ctypes.CDLL(library)
        except OSError as error:
            sys.exit(f"The base image lacks a library that the server needs: {error}.")

    packages = Path(site.getsitepackages()[0])
    packages.mkdir(parents=True, exist_ok=True)
    (packages / "tritonnb.pth").write_text((FILES / "tritonnb.pth").read_text())
    subprocess.run([sys.executable, "-c", "import numpy, onnxruntime"], check=True)

    if f":{NUMBER}:" not in Path("/etc/passwd").read_text():
        with Path("/etc/passwd").open("a") as users, Path("/etc/group").open("a") as groups:
            users.write(f"{USER}:x:{NUMBER}:{NUMBER}::/tmp:/usr/sbin/nologin\n")
            groups.write(f"{USER}:x:{NUMBER}:\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
