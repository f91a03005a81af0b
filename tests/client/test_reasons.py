"""Triton's wrappings, as its 2.51 release makes them, come off; the model's own words stay."""

from __future__ import annotations

import pytest

from tritonnb.client.reasons import model_reason

AT = "\n\nAt:\n  /models/m/1/model.py(4): initialize\n"
TRACEBACK = 'Traceback (most recent call last):\n  File "model.py", line 4, in initialize\nValueError: no weights\n'
TWO_VERSIONS = """load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: one;
version 2 is at UNAVAILABLE state: Internal: two;
"""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", ""),
        ("unloaded", "unloaded"),
        (
            f"load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: ValueError: no weights{AT};\n",
            "ValueError: no weights (at /models/m/1/model.py(4): initialize)",
        ),
        (f"Internal: ValueError: no weights{AT}", "ValueError: no weights (at /models/m/1/model.py(4): initialize)"),
        (TWO_VERSIONS, "version 1: one\nversion 2: two"),
        (
            "Internal: Error: no file\n\nAt:\n  /venv/site-packages/lib/a.py(1): f\n  /models/m/1/model.py(9): g\n",
            "Error: no file (at /models/m/1/model.py(9): g)",
        ),
        (f"Internal: failed to initialize\n{TRACEBACK}", "ValueError: no weights\nfailed to initialize"),
        ("Invalid argument: first line\nsecond line", "first line\nsecond line"),
        ("[request id: <id_unknown>] unexpected shape for input 'x'. ", "unexpected shape for input 'x'."),
    ],
)
def test_the_models_own_reason_comes_out(said, reason):
    assert model_reason(said) == reason
