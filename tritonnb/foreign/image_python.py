"""Tells, as JSON, of the Python of a container's image, for packages that are to be mounted beside its own."""

import importlib.metadata
import json
import os
import platform
import site
import sys


def version_of(info):
    """Return a version as a requirement's markers know it."""
    level = "" if info.releaselevel == "final" else f"{info.releaselevel[0]}{info.serial}"
    return f"{info.major}.{info.minor}.{info.micro}{level}"


def told():
    """Return the fields of `tritonnb.environments.ImagePython`."""
    found = list(importlib.metadata.distributions())
    return {
        "executable": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
        "site_packages": site.getsitepackages(),
        # Of two the first on the path is meant; what is damaged has no name.
        "packages": {one.metadata["Name"].lower(): one.version for one in reversed(found) if one.metadata["Name"]},
        "markers": {
            "implementation_name": sys.implementation.name,
            "implementation_version": version_of(sys.implementation.version),
            "os_name": os.name,
            "platform_machine": platform.machine(),
            "platform_release": platform.release(),
            "platform_system": platform.system(),
            "platform_version": platform.version(),
            "platform_python_implementation": platform.python_implementation(),
            "python_full_version": platform.python_version(),
            "python_version": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "sys_platform": sys.platform,
        },
        "glibc": platform.libc_ver()[1],
    }


if __name__ == "__main__":
    print(json.dumps(told()))
