"""Which lines of a tier's log belong to a request."""

from __future__ import annotations

import pytest

from tritonnb.score.log import has_ended, lines_of, read, traceback_in

LOG = """\
2026-11-23T10:00:00.123Z [worker 1] [-] starting
2026-11-23T10:00:01.123Z [worker 1] [a-1] got it
2026-11-23T10:00:01.124Z [worker 2] [a-2] run() failed: Traceback (most recent call last):
2026-11-23T10:00:01.124Z [worker 1] [a-1] POST /score 200 1.100ms 12
2026-11-23T10:00:01.125Z [worker 2] [a-2]   File "score.py", line 3, in run
2026-11-23T10:00:01.125Z [worker 2] [a-2]     raise KeyError("[a-1]")
2026-11-23T10:00:01.125Z [worker 2] [a-2] KeyError: '[a-1]'
2026-11-23T10:00:01.126Z [worker 2] [a-2] POST /score 500 1.200ms 92
"""


def test_the_lines_of_requests_that_ran_at_once_are_told_apart(tmp_path):
    (tmp_path / "score.log").write_text(LOG)

    assert lines_of(tmp_path / "score.log", "a-1") == ["got it", "POST /score 200 1.100ms 12"]


def test_a_traceback_ends_with_its_error(tmp_path):
    (tmp_path / "score.log").write_text(LOG)

    assert traceback_in(lines_of(tmp_path / "score.log", "a-2")) == (
        'Traceback (most recent call last):\n  File "score.py", line 3, in run\n    raise KeyError("[a-1]")\n'
        "KeyError: '[a-1]'"
    )
    assert traceback_in(lines_of(tmp_path / "score.log", "a-1")) == ""


def test_the_last_line_of_a_request_is_known(tmp_path):
    (tmp_path / "score.log").write_text(LOG)
    lines = lines_of(tmp_path / "score.log", "a-2")

    assert has_ended(lines)
    assert not has_ended(lines[:-1])


def test_before_there_is_a_log_it_is_empty(tmp_path):
    assert read(tmp_path / "score.log") == ""
    assert lines_of(tmp_path / "score.log", "a-1") == []


@pytest.mark.parametrize("ends", ["\n", ""])
@pytest.mark.parametrize("lines", [0, 1, 2, 30_000, 60_000])
def test_of_a_large_log_the_last_lines_are_read(tmp_path, lines, ends):
    text = "\n".join(f"{number:060} ü" for number in range(50_000)) + ends  # several blocks
    (tmp_path / "score.log").write_text(text)

    assert read(tmp_path / "score.log", lines) == "".join(text.splitlines(keepends=True)[-lines:] if lines else [])
