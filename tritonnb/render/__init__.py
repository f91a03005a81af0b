"""HTML for results: script-free, escaped, readable by a screen reader."""
