"""Two logs side by side."""

from __future__ import annotations

import pytest

from tritonnb.handle.logs import FollowedLogs, both_logs


@pytest.mark.parametrize(
    ("script", "lines", "told"),
    [
        ("", 9, "a\nb\nc"),
        ("", 2, "b\nc"),
        ("x\ny\n", 2, "==> tritonserver <==\nb\nc\n\n==> entry script <==\nx\ny"),
        ("x\ny\n", 1, "==> tritonserver <==\nc\n\n==> entry script <==\ny"),
    ],
)
def test_the_last_lines_of_each_have_headings_where_there_are_two(script, lines, told):
    assert both_logs("a\nb\nc\n", script, lines) == told


def test_followed_a_heading_stands_wherever_the_other_log_goes_on():
    logs = {"server": "a\nb\n", "script": ""}
    follow = FollowedLogs(lambda: logs["server"], lambda: logs["script"])

    told = [follow.more(1)]
    logs["script"] += "x\n"
    told.append(follow.more())
    logs["script"] += "y\n"
    told.append(follow.more())
    told.append(follow.more())
    logs["server"] += "c\n"
    told.append(follow.more())

    assert told == ["b\n", "\n==> entry script <==\nx\n", "y\n", "", "\n==> tritonserver <==\nc\n"]
