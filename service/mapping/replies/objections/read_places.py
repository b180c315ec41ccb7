"""Places of a reply beside the texts that a mapping reads: objects on its paths, and the metadata in them.

| reply | path | places |
| --- | --- | --- |
| `{orchestration_result: {choices: […]}}` | `orchestration_result.choices[0].message.content` | each choice |
| `{result: {output, metadata}}` | `result.output.text` | `result`, `metadata` |
| `{answer, trace: {calls: […]}}` | `answer` | the reply, but nothing in `trace` |
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from service.domain.model import Json
from service.domain.provider_errors import says_something
from service.mapping.replies.objections.objection import WRAPPER_KEYS, entries, words


def spellings(names: str) -> frozenset[str]:
    """Names in snake case, and as others write them: `finishReason`, `FinishReason`, `finish-reason`."""
    found: set[str] = set()
    for name in names.split():
        pascal = name.title().replace("_", "")
        found |= {name, pascal, pascal[0].lower() + pascal[1:], name.upper(), name.replace("_", "-")}
    return frozenset(found)


_METADATA = spellings(
    "metadata meta meta_info details generation_info response_metadata raw raw_response raw_representation "
    "additional_properties"
)
"""Keys of objects about the text beside them."""

_ANSWERS = spellings(
    "choices candidates results outputs generations completions responses alternatives artifacts"
)
"""Keys of lists of answers. Of any other list, such as a conversation, the last item counts."""

_RAW_ANSWERS = frozenset({"choices", "candidates"})
"""Keys under which a model's own reply stands beside the text that somebody took out of it."""

_OF_A_MODEL = spellings(
    "message messages content text output_text completion generated_text generation delta output data base64"
)
"""Keys under which models have their texts."""

_MAX_PLACES = 200

_BESIDE_A_REPLY = re.compile(
    r"(?:\w+_)?(?:id|ms|at|time|date|seconds|version|usage|model|tokens)|duration|latency|elapsed|took|cost"
    r"|timestamp|meta|metadata|cached"
)
"""Keys that a gateway adds beside the reply that it passes on."""

_MOST_WRAPPERS = 2
_SAYS_YES = words("success ok error errors message msg code status")


def places_on_paths(root: Json, keys: Collection[str]) -> Iterator[tuple[dict[str, Json], bool]]:
    """The objects on the paths, outer ones first, and True for those with a text as models call theirs.

    `keys` are those that the paths name.
    """
    waiting: list[tuple[Json, bool]] = [(root, False)]
    left = _MAX_PLACES
    while waiting and left:
        value, takes_all = waiting.pop(0)
        left -= 1
        if isinstance(value, list):
            waiting += [(item, takes_all) for item in (value[:left] if takes_all else value[-1:])]
        elif isinstance(value, dict):
            is_of_model = not _OF_A_MODEL.isdisjoint(value)
            yield value, is_of_model
            for key, inner in value.items():
                if key in _RAW_ANSWERS and key not in keys and is_of_model:
                    yield from [(entry, True) for entry in entries(inner)[:left]]
                if key in _METADATA:
                    # Haystack has a list, with an entry for each reply.
                    for facts in [inner] if isinstance(inner, dict) else entries(inner)[:left]:
                        yield facts, is_of_model
                        yield from [(entry, True) for name in _ANSWERS for entry in entries(facts.get(name))]
                if key in keys and isinstance(inner, dict | list):
                    waiting.append((inner, key in _ANSWERS))


def is_beside_a_reply(key: str) -> bool:
    """True for a key that a gateway adds to a reply: `request_id`, `duration_ms`."""
    return _BESIDE_A_REPLY.fullmatch(snake_case(key)) is not None


def wrapped_documents(document: Json) -> Iterator[dict[str, Json]]:
    """The document that a gateway has put under `data`, `result` and the like, and the one in that.

    Also the only object of a list. Beside them stands nothing but what a gateway adds, and no error.
    """
    for _ in range(_MOST_WRAPPERS):
        inner = document[0] if isinstance(document, list) and len(document) == 1 else None
        if isinstance(document, dict):
            keys = [key for key in WRAPPER_KEYS if isinstance(document.get(key), dict)]
            others = [key for key in document if key not in keys]
            if len(keys) == 1 and all(
                is_beside_a_reply(key)
                or (key in _SAYS_YES and not (key.startswith("error") and says_something(document[key])))
                for key in others
            ):
                inner = document[keys[0]]
        if not isinstance(inner, dict):
            return
        yield inner
        document = inner


def snake_case(name: str) -> str:
    """A name in snake case: `finish_reason` for `finishReason`, `FinishReason` and `finish-reason`."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", parts.lower())
