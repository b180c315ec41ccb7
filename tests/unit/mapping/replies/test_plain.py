"""Plain replies go past the readers. These tests hold that the readers would find nothing in them."""

import ast
import json
from collections.abc import Set as AbstractSet
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mapping import replies
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.objections.finder import find_objections
from service.mapping.replies.plain import READ_KEYS, is_plain

FIXTURES = Path(__file__).parents[3] / "fixtures" / "replies"
REPLIES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FIXTURES.glob("*.json"))}


def words_of_the_readers():
    """Every word in the texts of the modules that read replies: all keys are among them."""
    words = set()
    for path in Path(replies.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
                words.update(node.value.split())
    return words


OTHER_WORDS = sorted(words_of_the_readers() - READ_KEYS)
"""Names of a plain reply's fields that may seem to mean something: keys of inner objects, and values."""

SAID = {"status": "failed", "code": 429, "message": "rate limit", "role": "assistant", "content": "text"}
"""An object that readers find something in, if they look at it."""

VALUES = (False, True, "error", "failed", 503, SAID, [SAID], {"error": SAID}, '{"error": "rate limit"}')


class AskedKeys(AbstractSet):
    """The keys of a `Recorder`. A comparison with a set asks for that set, or has the answer `is_within`."""

    def __init__(self, record):
        self._record = record

    def __contains__(self, key):
        return key in self._record

    def __iter__(self):
        return iter(self._record)

    def __len__(self):
        return len(self._record)

    def __le__(self, other):
        return self._record.is_within

    def __ge__(self, other):
        return len([key for key in other if key in self._record]) == len(other)

    @classmethod
    def _from_iterable(cls, keys):
        return set(keys)


class Recorder(dict):
    """An object that records the keys that it is asked for. `is_within`: it says so of every set of keys."""

    def __init__(self, members, *, is_within):
        super().__init__(members)
        self.is_within = is_within
        self.asked = set()

    def get(self, key, default=None):
        """Record the key."""
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self.asked.add(key)
        return super().__contains__(key)

    def keys(self):
        """A view that records."""
        return AskedKeys(self)


def everything(view):
    """All fields of a view but `is_plain`, and its objections."""
    found = {one.name: getattr(view, one.name) for one in fields(view) if one.name != "is_plain"}
    return found, [(str(one.error), one.key, one.other_key) for one in find_objections(view)]


@pytest.mark.parametrize("is_within", [True, False])
def test_readers_look_for_the_declared_keys_only(is_within):
    """A key that a reader looks for in a reply without any is in READ_KEYS: nothing else could change it."""
    for name in ["unheard_of", *OTHER_WORDS]:
        record = Recorder({name: 1}, is_within=is_within)
        list(find_objections(ReplyView.read(record)))
        assert record.asked - {name} <= READ_KEYS, f"keys that plain.READ_KEYS lacks, beside {name!r}"


def test_no_other_word_of_the_readers_makes_a_difference():
    """A field that is named by any other word of the readers is passed over, whatever its value."""
    for name in OTHER_WORDS:
        for value in VALUES:
            reply = {name: value, "unheard_of": 1}
            assert is_plain(reply)
            assert everything(ReplyView.of(reply)) == everything(ReplyView.read(reply)), reply


@pytest.mark.parametrize("key", sorted(READ_KEYS))
def test_an_object_with_a_declared_key_is_read(key):
    assert not is_plain({key: "x", "unheard_of": 1})


@pytest.mark.parametrize("name", REPLIES)
def test_views_of_the_fixtures(name):
    """Every reply of a provider, and every object in one, has the same view in both ways."""
    waiting = [REPLIES[name]]
    while waiting:
        reply = waiting.pop()
        assert everything(ReplyView.of(reply)) == everything(ReplyView.read(reply))
        if isinstance(reply, dict | list):
            waiting += reply.values() if isinstance(reply, dict) else reply


LEAVES = st.sampled_from([*VALUES, None, 0, 200, "", "length", "queued", "<html><title>Error 503</title>"])
NAMES = st.sampled_from(OTHER_WORDS) | st.sampled_from(sorted(READ_KEYS))
INNER = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(OTHER_WORDS) | st.text(max_size=8), INNER, max_size=8))
def test_views_of_any_object_without_these_keys(reply):
    """Any fields beside each other, with anything in them, have the same view in both ways."""
    assert everything(ReplyView.of(reply)) == everything(ReplyView.read(reply))


@given(INNER)
def test_views_of_any_reply(reply):
    """So do replies of any kind."""
    assert everything(ReplyView.of(reply)) == everything(ReplyView.read(reply))


@pytest.mark.parametrize("reply", [{}, [], "text", None, {"title": "Not found"}, {"code": 429}])
def test_replies_that_are_not_plain(reply):
    """Texts, lists, the empty object, and objects that have nothing but keys of errors."""
    assert not is_plain(reply)
