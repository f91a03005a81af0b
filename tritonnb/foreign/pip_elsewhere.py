"""Runs pip for the Python of a container's image, which cannot be run here.

pip's own options for that choose wheels, but it still judges ``; python_version < "3.12"`` by the Python that it runs
on, and takes what is installed beside itself for what is there (pip's issue 11664). So it is told both:
``pip_elsewhere.py MARKERS PACKAGES ARGUMENT ...``, with the markers as JSON and a folder of the packages' metadata.
"""

import json
import runpy
import sys

from pip._vendor.packaging import markers


def main(told, packages, *arguments):
    """Run pip."""
    markers.default_environment = lambda: json.loads(told)
    sys.path.append(packages)
    sys.argv = ["pip", *arguments]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
