"""The CPU image is small, serves what the embedded engine serves, and needs neither root nor a writable disk."""

from __future__ import annotations

import pytest

from tritonnb.engines.cpu_image import build_image

pytestmark = pytest.mark.requires("engine", "docker")


def test_it_is_smaller_than_400_mb(docker_client, triton_image):
    assert docker_client.images.get(triton_image).attrs["Size"] < 400e6


def test_a_second_build_of_the_same_inputs_builds_nothing(triton_image):
    told = []
    first, second = build_image(), build_image(report=lambda *words: told.append(words))
    assert first == second
    assert told == []
