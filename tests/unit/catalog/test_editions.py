"""Editions: the catalog offered while mapping files change."""

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
    """The edition after the files of each step replaced those before."""
    edition = Edition()
    for files in steps:
        edition = next_edition(edition, files, {})
    return edition


def fields(edition, name):
    return edition.definition(name).compile().output_fields


def test_changes_that_compile_take_effect():
    """New files are offered, changed files replace their old version, deleted files disappear."""
    first = editions({"a.yaml": run("one"), "b.yaml": run("b")})
    second = next_edition(first, {"a.yaml": run("two", "y"), "c.yaml": run("c")}, {})
    assert second.catalog.names == ("a", "c")
    assert fields(second, "a") == ("y",)
    assert second.problems == ()


@pytest.mark.parametrize("broken", ["target: [", "target: 1\n", run("one").replace("invoke", "invke")])
def test_a_broken_file_keeps_its_last_good_version(broken):
    """Its problems name file and line. Changes of other files take effect."""
    edition = editions(
        {"a.yaml": run("one"), "b.yaml": run("b")}, {"a.yaml": broken, "b.yaml": run("b", "y")}
    )
    assert fields(edition, "a") == ("x",)
    assert fields(edition, "b") == ("y",)
    assert {(p.file, p.line) for p in edition.problems} == {("a.yaml", 1)}
    corrected = next_edition(edition, {"a.yaml": run("one", "z"), "b.yaml": run("b", "y")}, {})
    assert fields(corrected, "a") == ("z",)
    assert corrected.problems == ()


def test_a_file_broken_several_times_keeps_the_good_version():
    """The last good version survives any number of broken ones."""
    edition = editions({"a.yaml": run("one")}, {"a.yaml": "["}, {"a.yaml": "target: 1\n"}, {"a.yaml": "{"})
    assert fields(edition, "a") == ("x",)


def test_a_mapping_that_never_compiled_is_not_offered():
    """Other mappings are offered. Using the broken one raises MappingError with its problems."""
    edition = editions({"bad.yaml": "target: 1\n", "good.yaml": run("g")})
    assert edition.catalog.names == ("good",)
    with pytest.raises(MappingError, match=r"mapping 'bad' does not compile: bad\.yaml:1: "):
        edition.definition("bad")
    with pytest.raises(MappingError, match="unknown mapping 'other'; known: good"):
        edition.definition("other")


def test_a_mapping_whose_output_mapping_is_broken_says_so():
    """From the first edition on, the mapping is refused with the problems of the other file."""
    edition = editions(
        {"named.yaml": "output_mappings: {shared: 1}\n", "user.yaml": USER, "good.yaml": run("g")}
    )
    assert edition.catalog.names == ("good",)
    with pytest.raises(MappingError, match=r"mapping 'user' does not compile: named\.yaml:1: "):
        edition.definition("user")
    with pytest.raises(MappingError, match=r"'shared' is in no file that compiles: named\.yaml:1: "):
        edition.extractor("shared")
    assert edition.extractor("good").output_fields == ("x",)


def test_a_broken_file_that_is_deleted_is_forgotten():
    """Its last good version is no longer offered."""
    edition = editions({"a.yaml": run("one"), "b.yaml": run("b")}, {"a.yaml": "[", "b.yaml": run("b")})
    edition = next_edition(edition, {"b.yaml": run("b")}, {})
    assert edition.catalog.names == ("b",)
    assert edition.problems == ()


def test_runs_that_use_a_broken_output_mapping_stay_unchanged():
    """A run that refers to another file uses the last good version of that file."""
    good = {"named.yaml": NAMED % "x", "user.yaml": USER}
    edition = editions(good, {**good, "named.yaml": (NAMED % "x").replace("direct", "driect")})
    assert fields(edition, "user") == ("x",)
    assert {p.file for p in edition.problems} == {"named.yaml"}


@pytest.mark.parametrize("removed", ["output_mappings: {}\n", None])
def test_only_the_change_that_breaks_other_files_is_rolled_back(removed):
    """An output mapping in use stays although its file removed it. Other changes take effect."""
    good = {"named.yaml": NAMED % "x", "user.yaml": USER, "c.yaml": run("c")}
    after = {"user.yaml": USER, "c.yaml": run("c", "y")}
    if removed is not None:
        after["named.yaml"] = removed
    edition = editions(good, after)
    assert fields(edition, "user") == ("x",)
    assert fields(edition, "c") == ("y",)
    assert [p.file for p in edition.problems] == ["user.yaml"]


def test_a_second_output_mapping_of_the_same_name_is_refused():
    """The old one stays in use, also if the file of the new one sorts before it."""
    old = {"b.yaml": NAMED % "x", "user.yaml": USER}
    edition = editions(old, {**old, "a.yaml": NAMED % "y"})
    assert fields(edition, "user") == ("x",)
    assert edition.problems


def test_more_changes_than_max_suspects_are_rolled_back_together():
    """The search for the cause is bounded. All changes take effect once the cause is corrected."""
    good = {"named.yaml": NAMED % "x", "user.yaml": USER}
    many = {f"n{i}.yaml": run(f"h{i}") for i in range(MAX_SUSPECTS + 1)}
    edition = editions(good, {"user.yaml": USER, **many})
    assert edition.catalog.names == ("user",)
    assert next_edition(edition, {**good, **many}, {}).catalog.names == tuple(
        sorted(["user", *(f"n{i}" for i in range(MAX_SUSPECTS + 1))])
    )


def test_one_broken_file_among_many_new_ones_is_refused_alone():
    """A service that starts offers all other files, also if they are more than MAX_SUSPECTS."""
    many = {f"n{i}.yaml": run(f"h{i}") for i in range(MAX_SUSPECTS + 1)}
    edition = editions({**many, "bad.yaml": "["})
    assert len(edition.catalog.names) == len(many)
    assert [p.file for p in edition.problems] == ["bad.yaml"]


def test_a_file_that_cannot_be_read_keeps_its_last_good_version():
    """The reader's problem becomes a problem of the edition."""
    problem = Problem("a.yaml", 3, "not UTF-8")
    edition = next_edition(editions({"a.yaml": run("one")}), {}, {}, [problem])
    assert fields(edition, "a") == ("x",)
    assert edition.problems == (problem,)


def test_a_broken_schema_keeps_its_last_good_version():
    """The runs of its agent stay unchanged."""
    schema = "agent: t\nfields:\n  - {name: %s, type: %s}\n"
    mappings = {"a.yaml": run("one")}
    first = next_edition(Edition(), mappings, {"s.yaml": schema % ("x", "string")})
    assert first.problems == ()
    second = next_edition(first, mappings, {"s.yaml": schema % ("x", "strnig")})
    assert second.definition("a").digest == first.definition("a").digest
    assert [p.file for p in second.problems] == ["s.yaml"]
