"""The documents of the repository, and the parts of them that tests compare with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        ROOT / "infra" / "terraform" / "README.md",
        ROOT / "tests" / "simulation" / "README.md",
    ]
)

_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}.*", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ANCHOR = re.compile(r'<a id="([^"]+)">')


def title(path: Path) -> str:
    """The document's path in the repository, as the name of a test case."""
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """The document without its fenced blocks of code."""
    return _BLOCK.sub("", path.read_text("utf-8"))


def spans(path: Path) -> list[str]:
    """Texts in backticks, outside of fenced blocks."""
    return _SPAN.findall(prose(path))


def commands(path: Path) -> Iterator[str]:
    """Lines of code blocks without a prompt, and texts in backticks."""
    text = path.read_text("utf-8")
    for block in (*_BLOCK.findall(text), *_INDENTED.findall(text)):
        for line in block.splitlines():
            yield line.strip().removeprefix("$ ")
    yield from spans(path)


def links(path: Path) -> list[tuple[str, str]]:
    """The relative links of a document: path, "" for the document itself, and anchor, "" for none."""
    found = (link.partition("#") for link in _LINK.findall(prose(path)))
    return [(target, anchor) for target, _, anchor in found if ":" not in target]


def anchors(path: Path) -> set[str]:
    """The names that links to a part of this document can use, by GitHub's rules for headings."""
    text = prose(path)
    slugs = {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in _HEADING.findall(text)
    }
    return slugs | set(_ANCHOR.findall(text))
