"""A script's traceback, told as its author wants to read it."""

from __future__ import annotations

import pytest

from tritonnb.score.frames import reason

SCRIPT = "/home/score/qa-1/scripts/2/score.py"
PLAIN = f"""Traceback (most recent call last):
  File "{SCRIPT}", line 7, in run
    return answer(data)
           ^^^^^^^^^^^^
  File "/work/notebooks/helper.py", line 3, in answer
    return json.loads(data)
           ^^^^^^^^^^^^^^^^
  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads
    return _default_decoder.decode(s)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)
"""
CHAINED = (
    PLAIN
    + f"""
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "{SCRIPT}", line 9, in run
    raise ValueError("no JSON:\\n" + data)
ValueError: no JSON:
  hello
"""
)
SYNTAX = f"""Traceback (most recent call last):
  File "{SCRIPT}", line 2
    def init(:
             ^
SyntaxError: invalid syntax
"""
IMPORT = f"""Traceback (most recent call last):
  File "{SCRIPT}", line 2, in <module>
    import nltk
ModuleNotFoundError: No module named 'nltk'
"""


@pytest.mark.parametrize(
    ("traceback", "told"),
    [
        (
            PLAIN,
            """json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)
  line 7 of the cell, in run: return answer(data)
  helper.py, line 3, in answer: return json.loads(data)""",
        ),
        (
            CHAINED,
            'ValueError: no JSON:\n  hello\n  line 9 of the cell, in run: raise ValueError("no JSON:\\n" + data)',
        ),
        (SYNTAX, "SyntaxError: invalid syntax\n  line 2 of the cell: def init(:"),
        (IMPORT, "ModuleNotFoundError: No module named 'nltk'\n  line 2 of the cell: import nltk"),
        ("RuntimeError: no frames", "RuntimeError: no frames"),
    ],
    ids=["frames", "chained", "syntax", "import", "none"],
)
def test_the_error_stands_first_and_the_script_s_own_lines_below_it(traceback, told):
    assert reason(traceback.replace(SCRIPT, "the cell"), SCRIPT, "the cell") == told


def test_a_file_s_lines_are_told_with_its_name():
    told = reason(IMPORT, SCRIPT, "score.py")

    assert told == "ModuleNotFoundError: No module named 'nltk'\n  score.py, line 2: import nltk"
