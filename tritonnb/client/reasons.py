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
_VERSION_STATE = re.compile(r"^version (\d+) is at \w+ state: ", re.MULTILINE)
_STATUS = re.compile(
    r"^(?:Internal|Invalid argument|Unavailable|Unsupported|Not found|Already exists|Unknown|Cancelled): "
)
_PART_FAILED = re.compile(
    r"ensemble '[^']*' depends on ('[^']*') which has no loaded version\. Model '[^']*' loading failed with error:"
    r" version \d+ is at \w+ state: (?:[\w ]+: )?"
)
_REQUEST_ID = re.compile(r"^\[request id: [^\]]*\] ")
# What the Python backend puts around a model's own exception.
_PYTHON_BACKEND = re.compile(
    r"^(?:Failed to process the request\(s\) for model '[^']*', message: )?(?:TritonModelException: )?"
)
# Its advice is meant for Docker, and the number of bytes it asked for is all there is to know.
_NO_ROOM = re.compile(
    r"Unable to initialize shared memory key '[^']*' to requested size \((\d+) bytes\)\..*No space left.*"
)
# Whoever wrote the model knows it by name, version and file, not by where tritonnb staged it.
_STAGED = re.compile(r"(?:/[^/\s'\"]+)*/deployments/[^/\s]+/models/")
# Frames of Triton, of Python itself and of libraries: the model's own say more.
_NOT_THE_MODELS = re.compile(r"/backends/|site-packages|/lib/python3|^<frozen ")
_STACK = re.compile(r"\n\s*At:\n((?: {2}.*\n?)+)")
_TRACEBACK = "Traceback (most recent call last):"


def model_reason(text: str) -> str:
    """Return a model's own reason for an error: the last meaningful line first, then where it happened.

    Parameters
    ----------
    text
        What Triton answered to a load, or what the repository index gives as a version's ``reason``.
    """
    text = _LOAD_FAILED.sub("", _STAGED.sub("", text.strip()))
    before, *versions = _VERSION_STATE.split(text)
    reasons = [_one_reason(before)] if before else []
    for number, part in zip(versions[::2], versions[1::2], strict=True):
        which = "" if len(versions) == 2 and number == "1" else f"version {number}: "  # noqa: PLR2004  (one version)
        reasons.append(which + _one_reason(part.strip().removesuffix(";").strip()))
    return "\n".join(dict.fromkeys(reasons))


def _one_reason(text: str) -> str:
    text = _PYTHON_BACKEND.sub("", _REQUEST_ID.sub("", _STATUS.sub("", text)))
    text = _PART_FAILED.sub(r"it is made of \1, which failed: ", text)
    text = _NO_ROOM.sub(r"no room in /dev/shm for \1 bytes of shared memory", text)
    stack = _STACK.search(text + "\n")
    frames = [frame.strip() for frame in stack.group(1).splitlines()] if stack else []
    where = next((frame for frame in frames if frame and not _NOT_THE_MODELS.search(frame)), "")
    told = text[: stack.start()].strip() if stack else text.strip()
    before, _, trace = told.partition(_TRACEBACK)
    if trace:
        told = "\n".join(filter(None, [trace.strip().splitlines()[-1].strip(), before.strip()]))
    return f"{told} (at {where})" if where else told
