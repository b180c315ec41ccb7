"""The live catalog: mappings that change while the service runs."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryClock
from service.catalog.files import MappingFiles
from service.catalog.live import SHOWN_PROBLEMS, LiveCatalog
from service.domain.errors import AccessError, MappingError, RetryableError
from service.mapping.syntax.problems import Problem
from service.runtime.incidents import REPEAT_S
from service.runtime.metrics import Metrics

RUN = (
    "target: {name: t, invoke: http, url: 'http://a'}\n"
    "output_mapping: {extraction_methods: [{method: direct, field_mappings: {%s: a}}]}\n"
)


class Laboratory:
    """A catalog over files in memory. `error` is raised by every read."""

    def __init__(self):
        self.files = {"a.yaml": RUN % "x"}
        self.problems = []
        self.error = None
        self.reads = 0
        self.clock, self.metrics = MemoryClock(), Metrics()
        self.catalog = LiveCatalog(self.read, self.clock, self.metrics, refresh_s=30)

    async def read(self):
        """The current files."""
        self.reads += 1
        if self.error is not None:
            raise self.error
        return MappingFiles(dict(self.files), {}, list(self.problems))

    async def refresh_after(self, seconds=1.0):
        """Advance the clock, then refresh."""
        await self.clock.advance(seconds)
        await self.catalog.refresh()

    def fields(self, name="a"):
        """Fields that a new batch of this mapping extracts."""
        return self.catalog.definition(name).compile().output_fields


@pytest.fixture
async def lab():
    lab = Laboratory()
    await lab.catalog.load()
    return lab


async def test_a_change_is_used_by_the_next_batch(lab):
    """New, changed and deleted mappings take effect at the next refresh, and one log line names them."""
    lab.files = {"a.yaml": RUN % "y", "b.yaml": RUN % "x"}
    with capture_logs() as logs:
        await lab.refresh_after()
    assert lab.fields() == ("y",)
    (line,) = [entry for entry in logs if entry["event"] == "mappings_loaded"]
    assert (line["added"], line["changed"], line["removed"]) == (["b"], ["a"], [])
    del lab.files["a.yaml"]
    await lab.refresh_after()
    with pytest.raises(MappingError, match="unknown mapping 'a'; known: b"):
        lab.catalog.definition("a")


async def test_files_are_reloaded_regularly():
    """`refresh_forever` reloads every `refresh_s`, and only after the first successful load."""
    lab = Laboratory()
    refresher = asyncio.create_task(lab.catalog.refresh_forever())
    await lab.clock.advance(100)
    assert lab.reads == 0
    await lab.catalog.load()
    lab.files["a.yaml"] = RUN % "y"
    await lab.clock.advance(19)
    assert lab.fields() == ("x",)
    await lab.clock.advance(1)
    while lab.fields() != ("y",):  # noqa: ASYNC110 -- it compiles in a thread
        await asyncio.sleep(0)
    assert lab.reads == 2
    refresher.cancel()


async def test_concurrent_refreshes_share_one_reload(lab):
    """Callers that wait for the same reload share it. A later caller causes another reload."""
    await lab.clock.advance(1.0)
    await asyncio.gather(*(lab.catalog.refresh() for _ in range(50)))
    assert lab.reads == 2
    await lab.refresh_after(0.001)
    assert lab.reads == 3


async def test_a_broken_mapping_never_replaces_a_good_one(lab):
    """The good version stays. The warning names file, line and hint until the file is corrected."""
    lab.files["a.yaml"] = (RUN % "x").replace("direct", "driect")
    with capture_logs() as logs:
        await lab.refresh_after()
        await lab.refresh_after()
    assert lab.fields() == ("x",)
    place = "output_mapping.extraction_methods[0].method"
    assert lab.catalog.warning == f"a.yaml:2: {place}: unknown method 'driect' (did you mean 'direct'?)"
    (line,) = [entry for entry in logs if entry["event"] == "mapping_refused"]
    assert (line["file"], line["line"], line["place"]) == ("a.yaml", 2, place)
    assert (line["reason"], line["remedy"]) == ("unknown method 'driect'", "did you mean 'direct'?")
    assert lab.metrics.totals["mappings_refused"] == 2
    lab.files["a.yaml"] = RUN % "y"
    with capture_logs() as logs:
        await lab.refresh_after()
    assert lab.catalog.warning == ""
    assert lab.fields() == ("y",)
    assert "mappings_mended" in [entry["event"] for entry in logs]


async def test_a_new_problem_in_the_same_file_is_logged_again(lab):
    """Each refused change has a log line."""
    events = []
    for broken in ("[", "target: 1\n"):
        lab.files["a.yaml"] = broken
        with capture_logs() as logs:
            await lab.refresh_after()
        events.append([entry["event"] for entry in logs].count("mapping_refused"))
    assert all(events)


async def test_the_warning_shows_only_some_problems(lab):
    """/readyz shows at most SHOWN_PROBLEMS; the log has all of them."""
    lab.problems = [Problem(f"f{n}.yaml", 1, "is wrong") for n in range(SHOWN_PROBLEMS + 3)]
    with capture_logs() as logs:
        await lab.refresh_after()
    assert lab.catalog.warning.count("is wrong") == SHOWN_PROBLEMS
    assert lab.catalog.warning.endswith("and 3 more, see the log")
    assert [entry["event"] for entry in logs].count("mapping_refused") == SHOWN_PROBLEMS + 3


async def test_unreadable_files_keep_the_catalog(lab):
    """The warning names the reason. It is logged once, repeated after REPEAT_S, and ends at the next read."""
    lab.error = AccessError("AWS does not allow s3:ListBucket: grant it")
    with capture_logs() as logs:
        for _ in range(5):
            await lab.refresh_after()
        assert [entry["event"] for entry in logs] == ["mappings_unreadable"]
        await lab.refresh_after(REPEAT_S)
        assert [entry["event"] for entry in logs] == ["mappings_unreadable"] * 2
        assert lab.fields() == ("x",)
        assert "grant it" in lab.catalog.warning
        assert lab.metrics.totals["mappings_unreadable"] == 6
        lab.error = None
        await lab.refresh_after()
        assert logs[-1]["event"] == "mappings_unreadable_over"
    assert lab.catalog.warning == ""


async def test_an_unknown_mapping_is_retryable_while_files_are_unreadable(lab):
    """The batch is retried instead of failed, because the mapping may have been added meanwhile."""
    lab.error = RetryableError("no answer")
    await lab.refresh_after()
    with pytest.raises(
        RetryableError, match="'new' is not known, and the mappings cannot be read: no answer"
    ):
        lab.catalog.definition("new")
    lab.error = None
    await lab.refresh_after()
    with pytest.raises(MappingError, match="unknown mapping 'new'"):
        lab.catalog.definition("new")


async def test_a_folder_without_mappings_is_a_warning():
    """A mistyped prefix looks like an empty folder. Before the first load there is no warning."""
    lab = Laboratory()
    lab.files = {}
    assert lab.catalog.warning == ""
    await lab.catalog.load()
    assert "no mapping file" in lab.catalog.warning


async def test_an_error_of_the_first_load_is_raised():
    """`load` raises it, unlike `refresh`."""
    lab = Laboratory()
    lab.error = AccessError("no")
    with pytest.raises(AccessError):
        await lab.catalog.load()
