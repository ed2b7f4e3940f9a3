"""The page's own style and script, in the page itself: its first result is drawn before Gradio's scripts have run.

Gradio would add both when it mounts its components (``head=``, ``js_on_load``), which is when an empty page of its own
is painted.
"""

from __future__ import annotations

import json
import re
from functools import cache

from drorae.ui.head_start import early_files
from drorae.viewers import static_files

BODY = re.compile(rb"<body\b[^>]*>", re.IGNORECASE)
# Gradio's, as Vite writes them
SCRIPT = re.compile(rb"""<script type="module"[^>]*\bsrc="\./assets/([\w.-]+\.js)"></script>\s*""")
STYLESHEET = re.compile(rb"""<link rel="stylesheet"([^>]*\bhref="\./assets/[\w.-]+\.css">)""")


def with_first_sight(page: bytes) -> bytes:
    """A page (HTML in UTF-8) that draws what it begins with itself, and then lets Gradio's script run.

    Where the page is written in another way, Gradio's script runs as ever.
    """
    head, end, rest = page.partition(b"</head>")
    body, theirs = BODY.search(rest), SCRIPT.search(head)
    if body is None:
        return page
    style, script = tags()
    begin = b""
    if theirs is not None:
        head = head[: theirs.start()] + head[theirs.end() :]
        files = [theirs[1].decode(), *early_files(theirs[1].decode())]
        begin = f"<script>early.begin({json.dumps(files)});</script>\n".encode()
    # no script runs and nothing is painted before the style sheets above it have come, those for print excepted
    head = STYLESHEET.sub(rb"""<link rel="stylesheet" media="print" onload="this.media='all'"\1""", head)
    return b"".join([head, style, end, rest[: body.end()], script, begin, rest[body.end() :]])


@cache
def tags() -> tuple[bytes, bytes]:
    """The style for the head, and the script for where the body begins."""
    # not as css=, whose rules Gradio rewrites: it loses those of :root in media queries
    style = static_files.page_style() + static_files.read_static("gradio.css") + static_files.first_style()
    script = f"{static_files.page_script()}\n{static_files.first_script()}"
    return f'<style id="drorae-style">{style}</style>\n'.encode(), f"\n<script>{script}</script>\n".encode()
