"""A server's reason for an error, freed of what Triton wraps around it."""

from __future__ import annotations

import re

# What a failed load answers (2.51); the index gives the part after "state:" alone. Several versions follow each
# other:
#     load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: ValueError: why
#
#     At:
#       /models/m/1/model.py(4): initialize
#     ;
_LOAD_FAILED = re.compile(r"^load failed for model '[^']*': ")
_VERSION_STATE = re.compile(r"^version \d+ is at \w+ state: ", re.MULTILINE)
_STATUS = re.compile(
    r"^(?:Internal|Invalid argument|Unavailable|Unsupported|Not found|Already exists|Unknown|Cancelled): "
)
_REQUEST_ID = re.compile(r"^\[request id: [^\]]*\] ")
_STACK = re.compile(r"\n\s*At:\n((?: {2}.*\n?)+)")
_TRACEBACK = "Traceback (most recent call last):"


def model_reason(text: str) -> str:
    """Return a model's own reason for an error: the last meaningful line first, then where it happened.

    Parameters
    ----------
    text
        What Triton answered to a load, or what the repository index gives as a version's ``reason``.
    """
    text = _LOAD_FAILED.sub("", text.strip())
    versions = [part.strip().removesuffix(";").strip() for part in _VERSION_STATE.split(text)]
    return "\n".join(dict.fromkeys(_one_reason(part) for part in versions if part))


def _one_reason(text: str) -> str:
    text = _REQUEST_ID.sub("", _STATUS.sub("", text))
    stack = _STACK.search(text + "\n")
    frames = [frame.strip() for frame in stack.group(1).splitlines()] if stack else []
    # The innermost frame of the model's own code says more than one of a library that it calls.
    where = next((frame for frame in frames if frame and "site-packages" not in frame), "")
    told = text[: stack.start()].strip() if stack else text.strip()
    before, _, trace = told.partition(_TRACEBACK)
    if trace:
        told = "\n".join(filter(None, [trace.strip().splitlines()[-1].strip(), before.strip()]))
    return f"{told} (at {where})" if where else told
