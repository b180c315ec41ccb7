"""Mappings that change while the service runs."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryClock
from service.catalog.files import MappingFiles
from service.catalog.live import SHOWN_PROBLEMS, LiveCatalog
from service.domain.errors import AccessError, MappingError, RetryableError
from service.mapping.syntax.problems import Problem
from service.runtime.incidents import REPEAT_S
from service.runtime.telemetry import Metrics

RUN = (
    "target: {name: t, invoke: http, url: 'http://a'}\n"
    "output_mapping: {extraction_methods: [{method: direct, field_mappings: {%s: a}}]}\n"
)


class Laboratory:
    """A catalog over files in memory; `error` keeps them from being read."""

    def __init__(self):
        self.files = {"a.yaml": RUN % "x"}
        self.problems = []
        self.error = None
        self.looks = 0
        self.clock, self.metrics = MemoryClock(), Metrics()
        self.catalog = LiveCatalog(self.read, self.clock, self.metrics, refresh_s=30)

    async def read(self):
        """The files as they are now."""
        self.looks += 1
        if self.error is not None:
            raise self.error
        return MappingFiles(dict(self.files), {}, list(self.problems))

    async def later(self, seconds=1.0):
        """Look again, so much later."""
        await self.clock.advance(seconds)
        await self.catalog.refresh()

    def fields(self, name="a"):
        """What a new run of this mapping extracts."""
        return self.catalog.definition(name).compile().output_fields


@pytest.fixture
async def lab():
    made = Laboratory()
    await made.catalog.load()
    return made


async def test_a_change_is_used_by_the_next_run(lab):
    """New, changed and deleted mappings take effect at the next look, and are told in one line."""
    lab.files = {"a.yaml": RUN % "y", "b.yaml": RUN % "x"}
    with capture_logs() as logs:
        await lab.later()
    assert lab.fields() == ("y",)
    (line,) = [entry for entry in logs if entry["event"] == "mappings_loaded"]
    assert (line["added"], line["changed"], line["removed"]) == (["b"], ["a"], [])
    del lab.files["a.yaml"]
    await lab.later()
    with pytest.raises(MappingError, match="unknown mapping 'a'; known: b"):
        lab.catalog.definition("a")


async def test_looks_are_regular():
    """`keep` looks every `refresh_s`, and not before something was loaded for the first time."""
    lab = Laboratory()
    keeper = asyncio.create_task(lab.catalog.refresh_forever())
    await lab.clock.advance(100)
    assert lab.looks == 0
    await lab.catalog.load()
    lab.files["a.yaml"] = RUN % "y"
    await lab.clock.advance(19)
    assert lab.fields() == ("x",)
    await lab.clock.advance(1)
    while lab.fields() != ("y",):  # noqa: ASYNC110 -- it compiles in a thread
        await asyncio.sleep(0)
    assert lab.looks == 2
    keeper.cancel()


async def test_runs_that_open_together_look_once(lab):
    """All that ask while it is looked share the look; whoever asks later has one of its own."""
    await lab.clock.advance(1.0)
    await asyncio.gather(*(lab.catalog.refresh() for _ in range(50)))
    assert lab.looks == 2
    await lab.later(0.001)
    assert lab.looks == 3


async def test_a_broken_mapping_never_replaces_a_good_one(lab):
    """The good one is offered on; the trouble says file, line and hint until it is mended."""
    lab.files["a.yaml"] = (RUN % "x").replace("direct", "driect")
    with capture_logs() as logs:
        await lab.later()
        await lab.later()
    assert lab.fields() == ("x",)
    assert lab.catalog.warning == "a.yaml:2: unknown method 'driect' (did you mean 'direct'?)"
    (line,) = [entry for entry in logs if entry["event"] == "mapping_refused"]
    assert (line["file"], line["line"]) == ("a.yaml", 2)
    assert (line["reason"], line["remedy"]) == ("unknown method 'driect'", "did you mean 'direct'?")
    assert lab.metrics.totals["mappings_refused"] == 2
    lab.files["a.yaml"] = RUN % "y"
    with capture_logs() as logs:
        await lab.later()
    assert lab.catalog.warning == ""
    assert lab.fields() == ("y",)
    assert "mappings_mended" in [entry["event"] for entry in logs]


async def test_another_mistake_in_the_same_file_is_told_again(lab):
    """Each change that is refused has its line."""
    events = []
    for broken in ("[", "target: 1\n"):
        lab.files["a.yaml"] = broken
        with capture_logs() as logs:
            await lab.later()
        events.append([entry["event"] for entry in logs].count("mapping_refused"))
    assert all(events)


async def test_many_problems_are_cut_in_the_trouble(lab):
    """/readyz stays readable; the log has every one of them."""
    lab.problems = [Problem(f"f{n}.yaml", 1, "is wrong") for n in range(SHOWN_PROBLEMS + 3)]
    with capture_logs() as logs:
        await lab.later()
    assert lab.catalog.warning.count("is wrong") == SHOWN_PROBLEMS
    assert lab.catalog.warning.endswith("and 3 more, see the log")
    assert [entry["event"] for entry in logs].count("mapping_refused") == SHOWN_PROBLEMS + 3


async def test_files_that_cannot_be_read_leave_what_is_offered(lab):
    """The trouble says why, in the log once and again rarely; it is over when they can be read."""
    lab.error = AccessError("AWS does not allow s3:ListBucket: grant it")
    with capture_logs() as logs:
        for _ in range(5):
            await lab.later()
        assert [entry["event"] for entry in logs] == ["mappings_unreadable"]
        await lab.later(REPEAT_S)
        assert [entry["event"] for entry in logs] == ["mappings_unreadable"] * 2
        assert lab.fields() == ("x",)
        assert "grant it" in lab.catalog.warning
        assert lab.metrics.totals["mappings_unreadable"] == 6
        lab.error = None
        await lab.later()
        assert logs[-1]["event"] == "mappings_unreadable_over"
    assert lab.catalog.warning == ""


async def test_a_mapping_that_is_not_known_may_be_there_while_nothing_can_be_read(lab):
    """Its run is not failed but tried again: the mapping may have been put there since."""
    lab.error = RetryableError("no answer")
    await lab.later()
    with pytest.raises(
        RetryableError, match="'new' is not known, and the mappings cannot be read: no answer"
    ):
        lab.catalog.definition("new")
    lab.error = None
    await lab.later()
    with pytest.raises(MappingError, match="unknown mapping 'new'"):
        lab.catalog.definition("new")


async def test_a_folder_without_mappings_is_a_trouble():
    """A wrong prefix looks like an empty folder, so that is said; nothing is said before the first look."""
    lab = Laboratory()
    lab.files = {}
    assert lab.catalog.warning == ""
    await lab.catalog.load()
    assert "no mapping file" in lab.catalog.warning


async def test_the_first_load_says_what_keeps_it():
    """Who waits for it hears the error itself."""
    lab = Laboratory()
    lab.error = AccessError("no")
    with pytest.raises(AccessError):
        await lab.catalog.load()
