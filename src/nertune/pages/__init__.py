"""HTML pages that need nothing but themselves: no request leaves them, and nothing in the data can become markup or script.

The data lie in a script element that browsers do not run, with every character escaped that could end it. Scripts draw from
them by createElement and textContent alone, with kit.js, which they share as they do page.css. The Content-Security-Policy
names that very script and style by their hashes and forbids everything else, so that even markup which slipped through would
load and run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from nertune.console import visible

__all__ = ["page"]

_HERE = Path(__file__).parent
_NOTHING = "base-uri 'none'; form-action 'none'"
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def page(value: Mapping[str, Any], *, script: Path, without_script: str) -> str:
    """The page of a JSON value, drawn by `script` after kit.js; `value["title"]` is its title.

    `without_script`: what those read whose browser runs no script.
    """
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    code = (_HERE / "kit.js").read_text(encoding="utf-8") + script.read_text(encoding="utf-8")
    policy = f"default-src 'none'; script-src '{_hash(code)}'; style-src '{_hash(style)}'; {_NOTHING}"
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(visible(str(value["title"])))}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page is drawn by a script that it contains. {escape(without_script)}</noscript>
<main id="page"></main>
<script type="application/json" id="data">{data}</script>
<script>{code}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"
