"""What was measured and what went wrong, for people: one HTML page that needs nothing else, Markdown, and JSON.

content.py   `build_report`: everything that is shown, as one JSON value; the three forms are views of it
summary.py   what is good and what is bad, in words
curves.py    precision and recall by threshold, scores against the share that is right
rows.py      the documents with their gold and predicted entities, as many as a page can hold
page.js      draws the page, with what nertune.pages has for all pages
markdown.py  the same as Markdown
"""

from __future__ import annotations

from nertune.evaluate.report.content import Report, build_report

__all__ = ["Report", "build_report"]
