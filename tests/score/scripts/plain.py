"""Returns, or fails, as it is asked to."""

import datetime as dt
import json
import logging
import math
import sys
import threading
import warnings
from pathlib import Path

import helper
import numpy as np

RETURNED = {
    "text": "grüße",
    "empty text": "",
    "none": None,
    "true": True,
    "number": 1.5,
    "list": [1, [2, 3], {}],
    "empty list": [],
    "tuple": (1, 2),
    "object": {"b": 1, "a": [None]},
    "keys that are numbers": {1: 2},
    "not a number": math.nan,
    "bytes": b"bytes",
    "set": {1},
    "array": np.zeros(2),
    "numpy's double": np.float64(0.5),
    "numpy's float": np.float32(0.5),
    "date": dt.date(2026, 1, 1),
    "an object of its own": Path("a"),
    "half of a pair": "\ud800",
}


def init():
    print("say: init")


def run(data):
    wish = json.loads(data)
    if "return" in wish:
        return RETURNED[wish["return"]]
    if "twice" in wish:
        return helper.twice(wish["twice"])
    return globals()[wish["do"].replace(" ", "_")]()


def print_lines():
    print("say: one", "two", sep=", ")
    print("say: three\nsay: four")
    print("say: error", file=sys.stderr)
    print("say: cut", end="")


def print_much():
    for number in range(2000):
        print("say:", number, "x" * 200)


def log_warning():
    logging.getLogger("mine").warning("say: careful")


def log_information():
    logging.getLogger("mine").info("say: by the way")


def warn():
    warnings.warn("say: old", stacklevel=1)


def fail():
    raise ValueError("no good")


def fail_twice():
    try:
        fail()
    except ValueError as error:
        raise KeyError("nor this") from error


def fail_by_time():
    raise TimeoutError("of the script's own")


def leave():
    sys.exit(5)


def return_a_generator():
    return (number for number in range(3))


def tell_arguments():
    in_main_thread = threading.current_thread() is threading.main_thread()
    return [__name__, Path.cwd() == Path(__file__).parent, Path(__file__).name, in_main_thread]
