"""Beside the script."""


def twice(value):
    return value * 2
