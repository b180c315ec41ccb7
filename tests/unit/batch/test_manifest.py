"""The manifest of a batch, as JSON."""

from dataclasses import replace

from service.batch.manifest import manifest_of
from service.domain.model import Counts, State
from service.domain.tolerance import parse_tolerance


async def test_a_manifest_gives_the_reason_of_a_failed_batch_only(lab):
    """`error` is there in every manifest, and empty unless the batch has failed."""
    batch = await lab.batch(3, error="no agent")
    failed = manifest_of(batch, State.FAILED, Counts(succeeded=1))
    assert (failed["state"], failed["error"], failed["succeeded"]) == ("FAILED", "no agent", 1)
    assert manifest_of(batch, State.SUCCEEDED, Counts())["error"] == ""
    assert manifest_of(batch, State.SUCCEEDED, Counts()).keys() == failed.keys()


async def test_a_batch_that_went_on_in_spite_of_its_failures_says_so(lab):
    """With `on_exceeded=finish` the limit that was exceeded is a note."""
    tolerate = parse_tolerance("rejected=1,on_exceeded=finish")
    batch = await lab.batch(4, tolerate=tolerate, notes=("a note",))
    counts = Counts(succeeded=2, failed=2, rejected=2)
    assert manifest_of(batch, State.COMPLETED_WITH_ERRORS, counts)["notes"] == [
        "a note",
        "2 of 4 rows failed as rejected, and 1 are tolerated",
    ]
    held = replace(batch, tolerate=parse_tolerance("rejected=1"))
    assert manifest_of(held, State.COMPLETED_WITH_ERRORS, counts)["notes"] == ["a note"]
