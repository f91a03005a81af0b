"""The one table that all results are shown in."""

from __future__ import annotations

from tritonnb.render.html import table


def test_every_value_is_escaped():
    html = table("<b>caption</b>", ["<i>"], [['"a" & <script>'], ["<td>"]])

    assert "&lt;b&gt;caption&lt;/b&gt;" in html
    assert '<th scope="col">&lt;i&gt;</th>' in html
    assert '<th scope="row">&#34;a&#34; &amp; &lt;script&gt;</th>' in html
    assert "<script" not in html


def test_a_table_without_rows_keeps_its_caption_and_headers():
    html = table("Nothing yet", ["Model", "State"], [])

    assert "<caption>Nothing yet</caption>" in html
    assert '<th scope="col">State</th>' in html
    assert "<td>" not in html
