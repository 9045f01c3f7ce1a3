"""What MkDocs needs so that the pages read on GitHub and in the site alike: files beside docs/ become part of the site.

Pictures of plots/, README.md, CONTRIBUTING.md and CHANGELOG.md are copied in. Links to other files of the repository become
their text, as the site has no such file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
COPIED = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PLACES = {f"../{name}": page for name, page in COPIED.items()}
UNIT = re.compile(r"(?<=\d) (?=(?:%|[mun]?s|[kMGT]?i?B(?:/s)?)(?:\W|$))")  # a line of a table ends nowhere before a unit
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pictures of plots/ and the pages of the top level to the files of the site."""
    for picture in sorted(one for one in (ROOT / "plots").iterdir() if one.suffix in (".png", ".svg")):
        files.append(File.generated(config, f"plots/{picture.name}", abs_src_path=str(picture)))
    for name, page in COPIED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return a page with its links as the site has them."""
    top = page.file.src_uri in COPIED.values()  # links of such a page are those of the top level
    text = markdown.replace("](plots/", "](../plots/") if top else markdown
    text = LINK.sub(lambda found: _linked(found[1], found[2], top), text.replace("](../plots/", "](plots/"))
    return "\n".join(UNIT.sub("\N{NO-BREAK SPACE}", line) if line.startswith("|") else line for line in text.splitlines())


def _linked(text: str, target: str, top: bool) -> str:
    """Return a link of a page as the site has it, or its text where that has no such page."""
    path, _, anchor = target.partition("#")
    if re.match(r"\w+:", path) or not path:
        return f"[{text}]({target})"
    path = path.removeprefix("docs/") if top and path.startswith("docs/") else f"../{path}" if top else path
    if path in PLACES:
        path = PLACES[path]
    return text if path.startswith("../") else f"[{text}]({path}{'#' + anchor if anchor else ''})"
