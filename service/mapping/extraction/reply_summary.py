"""Summary of a reply in which nothing was found: its kind, its keys, and the path that may be meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from service.domain.model import Json
from service.domain.truncation import truncate
from service.mapping.extraction.guarded_texts import stated_finish_reasons
from service.mapping.extraction.schemas import excerpt
from service.mapping.replies.html_pages import is_page, page_words
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.text import embedded_json
from service.mapping.syntax.problems import quoted_key

_MAX_CHARS = 80
_MAX_KEYS = 10
_MAX_KEY_CHARS = 40
_MAX_DEPTH = 10
_MAX_NODES = 5_000
_MAX_FIELDS = 3
_MAX_PATHS = 20


def summary(view: ReplyView, missing: Iterable[Collection[str]], tried: Collection[str]) -> str:
    """The reply in words, and for each missing field the path of the only leaf that has one of its names.

    `missing` are names of each field: its own, and the keys at the end of its paths. A path that was `tried`
    is not named.
    """
    parts = [_kind(view)]
    if reasons := list(dict.fromkeys(stated_finish_reasons(view))):
        parts.append("finish reason " + ", ".join(truncate(reason, _MAX_KEY_CHARS) for reason in reasons[:2]))
    meant = [path for names in list(missing)[:_MAX_FIELDS] if (path := _only_leaf(view.root, names))]
    if meant := [path for path in dict.fromkeys(meant) if path not in tried]:
        parts.append(f"did you mean {' and '.join(meant)}?")
    return "; ".join(parts)


def reply_paths(text: str) -> list[str]:
    """The paths of the values in a reply that is JSON, in its order; of a list, those of its first items."""
    root = embedded_json(text)
    # the leaves come last first
    paths = [re.sub(r"\[\d+\]", "[0]", path) for path, _ in _leaves(root)][::-1]
    return list(dict.fromkeys(paths))[:_MAX_PATHS]


def _kind(view: ReplyView) -> str:
    reply = view.raw
    if isinstance(reply, str):
        text = " ".join(reply[: _MAX_CHARS * 10].split())
        if not text:
            return "the reply is empty"
        if is_page(reply):
            return f"the reply is an HTML page: {truncate(page_words(reply), _MAX_CHARS)!r}"
        return f"the reply is text: {truncate(text, _MAX_CHARS)!r}"
    if isinstance(view.root, dict) and view.root:
        return f"the reply is JSON with {_keys(view.root)}"
    if isinstance(view.root, list) and view.root:
        first = f", the first with {_keys(view.root[0])}" if isinstance(view.root[0], dict) else ""
        return f"the reply is a JSON list of {len(view.root)}{first}"
    return f"the reply is JSON: {excerpt(reply)}"


def _keys(value: dict[str, Json]) -> str:
    names = [truncate(str(key), _MAX_KEY_CHARS) for key in list(value)[:_MAX_KEYS]]
    more = ", …" if len(value) > _MAX_KEYS else ""
    return f"the key{'s' if len(value) > 1 else ''} {', '.join(names)}{more}"


def _only_leaf(root: Json, names: Collection[str]) -> str:
    """The path to the only leaf whose key is like one of `names`; "" if there is none, or several."""
    folded = {_folded(name) for name in names}
    paths = [path for path, key in _leaves(root) if _folded(key) in folded]
    return paths[0] if len(paths) == 1 else ""


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold()) or name


def _leaves(root: Json) -> Iterator[tuple[str, str]]:
    """Path and key of every text, number and boolean that has a key; also those in a text that is JSON."""
    waiting: list[tuple[str, str, Json, int]] = [("$", "", root, 0)]
    for _ in range(_MAX_NODES):
        if not waiting:
            return
        path, key, value, depth = waiting.pop()
        if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
            value = embedded_json(value) or value
        if depth > _MAX_DEPTH:
            continue
        if isinstance(value, dict):
            waiting += [(f"{path}.{quoted_key(k)}", k, item, depth + 1) for k, item in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}[{index}]", key, item, depth + 1) for index, item in enumerate(value)]
        elif key and value is not None and value != "":
            yield path, key
