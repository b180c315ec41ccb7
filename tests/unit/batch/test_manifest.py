"""The manifest of a batch, as JSON."""

from service.batch.manifest import manifest_of
from service.domain.model import Counts, State


async def test_a_manifest_gives_the_reason_of_a_failed_batch_only(lab):
    """`error` is there in every manifest, and empty unless the batch has failed."""
    batch = await lab.batch(3, error="no agent")
    failed = manifest_of(batch, State.FAILED, Counts(succeeded=1))
    assert (failed["state"], failed["error"], failed["succeeded"]) == ("FAILED", "no agent", 1)
    assert manifest_of(batch, State.SUCCEEDED, Counts())["error"] == ""
    assert manifest_of(batch, State.SUCCEEDED, Counts()).keys() == failed.keys()
