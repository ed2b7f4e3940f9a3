"""What the page will ask for soon is asked for with the page, and not when the script before it has run.

Gradio's scripts fetch one another in three steps, and the results of the first example come after them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from gradio.routes import BUILD_PATH_LIB

COMPONENTS = ("column", "form", "html", "state", "tabitem", "tabs")  # what is mounted first
# address of the first example's results, in the page's data
FIRST = re.compile(r'"bundles": ?\{"[^"]+": ?"([\w./?=-]+)"')
# Vite's list of files, and an import with the numbers of those it needs
FILES = re.compile(r"m\.f=\[([^\]]*)\]")
IMPORT = re.compile(r"import\(`\./([\w.-]+)`\)[^`]{0,40}?__vite__mapDeps\(\[([\d,]*)\]\)")
COMPONENT = r"[{,]%s:\{(?:[^{}]*,)?component:[^{}]*?(import\([^{}]*)\}"

# the answer is taken by store/photos.js
RESULTS = """<script>
(() => {
  const bar = window.gradio_config?.components?.find(({ props }) => props?.props?.config?.bundles);
  if (!bar) return;
  const { bundles, examples } = bar.props.props.config;
  const chosen = new URLSearchParams(window.location.search);
  const bundle = bundles[chosen.get("photo") ?? chosen.get("example") ?? examples[0]?.name];
  if (!bundle) return;
  const answer = fetch(new URL(bundle, document.baseURI));
  answer.catch(() => {}); // who takes it is told
  window.droraeHeadStart = { [bundle]: answer };
})();
</script>"""


def with_head_start(page: bytes, query: str = "") -> bytes:
    """A page (HTML in UTF-8) that asks early for the results it shows first.

    Args:
        query: of the page's address, which may choose another photo than the first example.
    """
    head, end, rest = page.partition(b"</head>")
    if not end:
        return page
    first = FIRST.search(head.decode(errors="replace")) if not query else None
    tag = f'<link rel="preload" as="fetch" crossorigin href="{first[1]}">\n' if first else ""
    return head + (tag + RESULTS).encode() + end + rest


@cache
def early_files(entry: str) -> tuple[str, ...]:
    """Names of the scripts and styles that a page is going to fetch, whose first script is ``entry``.

    They are read from the scripts, as Vite writes them. Where it writes them in another way there are fewer or none,
    and the page fetches them when it needs them.
    """
    found = dict.fromkeys(name for _, needed in imports(entry) for name in needed)
    for name in list(found):
        if name.endswith(".js"):
            found |= dict.fromkeys(each for script, needed in imports(name) if draws_page(script) for each in needed)
            found |= dict.fromkeys(component_files(name))
    found.pop(entry, None)
    return tuple(found)


def draws_page(script: str) -> bool:
    """Whether a script is the one that draws a page of components."""
    return script.startswith("Blocks-")


def imports(script: str, part: str | None = None) -> list[tuple[str, list[str]]]:
    """Scripts that a script (or a part of it) imports when it runs, each with all files that it needs, itself too."""
    text = source(script)
    listed = FILES.search(text)
    names = re.findall(r'"\./([^"]+)"', listed[1]) if listed else []
    found = []
    for target, numbers in IMPORT.findall(text if part is None else part):
        needed = [names[int(number)] for number in numbers.split(",") if number and int(number) < len(names)]
        found.append((target, needed))
    return found


def component_files(script: str) -> list[str]:
    """Files of :data:`COMPONENTS`, if this is the script that knows the components."""
    text, found = source(script), []
    for name in COMPONENTS:
        part = re.search(COMPONENT % name, text)
        if part:
            found += [each for _, needed in imports(script, part[1]) for each in needed]
    return found


@cache
def source(script: str) -> str:
    """Text of one of Gradio's scripts; empty where there is none of that name."""
    path = Path(BUILD_PATH_LIB) / script
    return path.read_text(encoding="utf-8") if path.is_file() else ""
