"""Packs: replies as JSON texts, compressed together."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batch.replies.pack import MAX_PACK_BYTES, kept_text, pack_key, packs_of, reply_in, unpacked
from service.domain import exact_json
from service.domain.model import Location

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
REPLIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)  # fmt: skip


def read_back(replies: list[str]) -> list[str]:
    return [
        reply_in(unpacked(pack.body), place).decode() for pack in packs_of(replies) for place in pack.places
    ]


@given(st.lists(REPLIES))
def test_replies_are_read_back_as_they_were(replies):
    """To the type and the last digit: a remap has to see what the mapping saw."""
    read = [exact_json.loads_reply(exact_json.dumps(reply)) for reply in replies]
    texts = [kept_text(reply) for reply in read]
    assert repr([exact_json.loads(text) for text in read_back(texts)]) == repr(read)


@pytest.mark.parametrize("text", ["1e2", "1E+400", "12.50", "1e16", "-0.0", "12345678901234567890123"])
def test_numbers_keep_their_form(text):
    """A float stays a float, a Decimal keeps zeros and exponent."""
    value = exact_json.loads_reply(text)
    back = exact_json.loads(kept_text([value]))[0]
    assert repr(back) == repr(value)


def test_half_a_character_is_kept():
    """JSON can carry half a surrogate pair, UTF-8 cannot: it is written as an escape."""
    text = kept_text({"a\ud83d": "é\udc00"})
    assert text == '{"a\\ud83d":"é\\udc00"}'
    assert exact_json.loads(text) == {"a\ud83d": "é\udc00"}


def test_a_reply_that_is_no_json_is_not_kept():
    """None is the reply `null`, which is kept."""
    deep: object = Decimal("1.5")
    for _ in range(100_000):
        deep = [deep]
    assert (kept_text(None), kept_text(deep), kept_text(float("nan"))) == ("null", "", "")


def test_large_replies_are_cut_into_several_packs():
    """A larger reply than a pack has one of its own."""
    half = "x" * (MAX_PACK_BYTES // 2)
    replies = ["a", half, half, "b", half * 3, "c"]
    assert [len(pack.places) for pack in packs_of(replies)] == [2, 2, 1, 1]
    assert read_back(replies) == replies
    assert list(packs_of([])) == []


def test_the_name_of_a_pack_has_the_digest_of_its_content():
    """Two workers that process one row write two packs, unless all replies are equal."""
    (one,), (same,), (other,) = (list(packs_of(replies)) for replies in (["1"], ["1"], ["2"]))
    assert one == same
    assert one.name != other.name
    assert pack_key(Location("out", "work/demo/e1/1/"), one.name) == f"work/demo/e1/1/replies/{one.name}.zst"


def test_a_pack_that_was_changed_is_noticed():
    """Its bytes, or the place of a reply."""
    (pack,) = packs_of(["first", "second"])
    (other,) = packs_of(["1irst", "second"])
    with pytest.raises(ValueError, match="sha256"):
        reply_in(unpacked(other.body), pack.places[0])
    with pytest.raises(ValueError, match=r"."):
        unpacked(b"no pack")
