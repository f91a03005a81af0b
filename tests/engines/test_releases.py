"""Flags follow the release, and a version tells its release."""

from __future__ import annotations

import pytest

from tritonnb.engines.releases import check_flags, knows, release_in, release_of_version, shown
from tritonnb.errors import SpecError


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("2.42.0", "24.01"), ("2.51.0", "24.10"), ("2.53.0", "24.12"), ("2.54.0", "25.01"), ("2.59.0", "25.06"),
        ("2.59.1", "25.07"), ("2.60.0", "25.08"), ("2.64.0", "25.12"), ("2.65.0", "26.01"), ("2.72.0", "26.08"),
        ("2.73.0dev", "26.09"),
    ],
)  # fmt: skip
def test_a_server_version_tells_its_release(version, release):
    assert shown(release_of_version(version)) == release


@pytest.mark.parametrize("version", ["", "1.0.0", "2.13.0", "3.1"])
def test_a_version_before_the_table_tells_none(version):
    assert release_of_version(version) is None


@pytest.mark.parametrize(
    ("text", "release"),
    [("24.10", (24, 10)), ("26.07-py3", (26, 7)), ("latest", None), ("24.13", None), ("1.24.10", None)],
)
def test_a_tag_tells_its_release(text, release):
    assert release_in(text) == release


@pytest.mark.parametrize(
    ("flag", "first"), [("http-max-input-size", (25, 6)), ("allow-client-shm", (26, 4)), ("log-verbose", (24, 1))]
)
def test_a_flag_is_known_from_its_first_release_on(flag, first):
    assert knows(first, flag)
    assert knows((27, 1), flag)
    assert knows((first[0] - 1, 12), flag) == (flag == "log-verbose")
    assert knows(None, flag) == (flag == "log-verbose")


def test_a_misspelt_flag_gets_the_nearest():
    with pytest.raises(SpecError, match=r"release 24.10 has no flag 'log-verbos'.\n.*did you mean 'log-verbose'"):
        check_flags(["id", "log-verbos"], (24, 10))


def test_a_flag_of_a_newer_release_is_told_with_it():
    with pytest.raises(SpecError, match=r"release 24.10 has no flag 'allow-client-shm': it came with 26.04.\n"):
        check_flags(["allow-client-shm"], (24, 10))
    check_flags(["allow-client-shm"], (26, 4))


def test_of_an_unknown_release_every_known_flag_passes_and_no_other():
    check_flags(["allow-client-shm", "log-verbose"], None)
    with pytest.raises(SpecError, match=r"no flag 'alow-client-shm'.\n.*did you mean 'allow-client-shm'"):
        check_flags(["alow-client-shm"], None)
