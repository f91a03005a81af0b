"""Takes as long as it is told to, in seconds."""

import json
import time


def init():
    pass


def run(data):
    time.sleep(json.loads(data))
    return "slept"
