"""What is offered while mapping files change."""

import pytest

from service.catalog.editions import MAX_SUSPECTS, Edition, next_edition
from service.domain.errors import MappingError
from service.mapping.syntax.problems import Problem

RUN = "target: {name: t, invoke: http, url: 'http://%s'}\n"
OWN = "output_mapping: {extraction_methods: [{method: direct, field_mappings: {%s: a}}]}\n"
NAMED = "output_mappings: {shared: {extraction_methods: [{method: direct, field_mappings: {%s: a}}]}}\n"
USER = "target: {name: t, invoke: http, url: 'http://a'}\noutput_mapping: shared\n"


def run(host, field="x"):
    return RUN % host + OWN % field


def editions(*steps):
    """The edition after files came to lie there as each step says."""
    edition = Edition()
    for files in steps:
        edition = next_edition(edition, files, {})
    return edition


def fields(edition, name):
    return edition.definition(name).compile().output_fields


def test_what_compiles_is_offered_and_replaces_what_was_there():
    """New, changed and deleted files take effect."""
    first = editions({"a.yaml": run("one"), "b.yaml": run("b")})
    second = next_edition(first, {"a.yaml": run("two", "y"), "c.yaml": run("c")}, {})
    assert second.catalog.names == ("a", "c")
    assert fields(second, "a") == ("y",)
    assert second.problems == ()


@pytest.mark.parametrize("broken", ["target: [", "target: 1\n", run("one").replace("invoke", "invke")])
def test_a_broken_file_keeps_its_last_good_version(broken):
    """Its problems are told with file and line, and the changes of other files take effect all the same."""
    edition = editions(
        {"a.yaml": run("one"), "b.yaml": run("b")}, {"a.yaml": broken, "b.yaml": run("b", "y")}
    )
    assert fields(edition, "a") == ("x",)
    assert fields(edition, "b") == ("y",)
    assert {(p.file, p.line) for p in edition.problems} == {("a.yaml", 1)}
    mended = next_edition(edition, {"a.yaml": run("one", "z"), "b.yaml": run("b", "y")}, {})
    assert fields(mended, "a") == ("z",)
    assert mended.problems == ()


def test_a_file_that_was_broken_again_keeps_the_good_version():
    """One broken version after another never wears out what is offered."""
    edition = editions({"a.yaml": run("one")}, {"a.yaml": "["}, {"a.yaml": "target: 1\n"}, {"a.yaml": "{"})
    assert fields(edition, "a") == ("x",)


def test_a_mapping_that_was_never_right_is_not_offered_and_says_why():
    """The others are offered; a run of the broken one is refused with its problems."""
    edition = editions({"bad.yaml": "target: 1\n", "good.yaml": run("g")})
    assert edition.catalog.names == ("good",)
    with pytest.raises(MappingError, match=r"mapping 'bad' does not compile: bad\.yaml:1: "):
        edition.definition("bad")
    with pytest.raises(MappingError, match="unknown mapping 'other'; known: good"):
        edition.definition("other")


def test_a_broken_file_that_is_deleted_is_forgotten():
    """Its last good version is offered no more: the file is gone."""
    edition = editions({"a.yaml": run("one"), "b.yaml": run("b")}, {"a.yaml": "[", "b.yaml": run("b")})
    edition = next_edition(edition, {"b.yaml": run("b")}, {})
    assert edition.catalog.names == ("b",)
    assert edition.problems == ()


def test_users_of_a_broken_output_mapping_stay_as_they_are():
    """What a run refers to in another file is that file's last good version."""
    good = {"named.yaml": NAMED % "x", "user.yaml": USER}
    edition = editions(good, {**good, "named.yaml": (NAMED % "x").replace("direct", "driect")})
    assert fields(edition, "user") == ("x",)
    assert {p.file for p in edition.problems} == {"named.yaml"}


@pytest.mark.parametrize("removed", ["output_mappings: {}\n", None])
def test_a_change_that_breaks_others_is_held_back_alone(removed):
    """An output mapping that is in use stays when it is taken away, and changes beside it take effect."""
    good = {"named.yaml": NAMED % "x", "user.yaml": USER, "c.yaml": run("c")}
    after = {"user.yaml": USER, "c.yaml": run("c", "y")}
    if removed is not None:
        after["named.yaml"] = removed
    edition = editions(good, after)
    assert fields(edition, "user") == ("x",)
    assert fields(edition, "c") == ("y",)
    assert [p.file for p in edition.problems] == ["user.yaml"]


def test_a_second_file_of_a_name_does_not_take_over():
    """A new file whose name comes first in order is refused while the old one is there."""
    old = {"b.yaml": NAMED % "x", "user.yaml": USER}
    edition = editions(old, {**old, "a.yaml": NAMED % "y"})
    assert fields(edition, "user") == ("x",)
    assert edition.problems


def test_many_changes_wait_together_where_the_guilty_one_is_not_found():
    """Looking for it is bounded: beyond the limit everything waits for the mending, and nothing is lost."""
    good = {"named.yaml": NAMED % "x", "user.yaml": USER}
    many = {f"n{i}.yaml": run(f"h{i}") for i in range(MAX_SUSPECTS + 1)}
    edition = editions(good, {"user.yaml": USER, **many})
    assert edition.catalog.names == ("user",)
    assert next_edition(edition, {**good, **many}, {}).catalog.names == tuple(
        sorted(["user", *(f"n{i}" for i in range(MAX_SUSPECTS + 1))])
    )


def test_a_broken_file_among_many_new_ones_is_alone_refused():
    """A service that starts offers all the others, however many there are."""
    many = {f"n{i}.yaml": run(f"h{i}") for i in range(MAX_SUSPECTS + 1)}
    edition = editions({**many, "bad.yaml": "["})
    assert len(edition.catalog.names) == len(many)
    assert [p.file for p in edition.problems] == ["bad.yaml"]


def test_a_file_that_cannot_be_read_keeps_its_last_good_version():
    """It is told as the reader told it."""
    problem = Problem("a.yaml", 3, "not UTF-8")
    edition = next_edition(editions({"a.yaml": run("one")}), {}, {}, [problem])
    assert fields(edition, "a") == ("x",)
    assert edition.problems == (problem,)


def test_schemas_are_kept_like_mappings():
    """A broken schema leaves its agent's runs as they are."""
    schema = "agent: t\nfields:\n  - {name: %s, type: %s}\n"
    mappings = {"a.yaml": run("one")}
    first = next_edition(Edition(), mappings, {"s.yaml": schema % ("x", "string")})
    assert first.problems == ()
    second = next_edition(first, mappings, {"s.yaml": schema % ("x", "strnig")})
    assert second.definition("a").digest == first.definition("a").digest
    assert [p.file for p in second.problems] == ["s.yaml"]
