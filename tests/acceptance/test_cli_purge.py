"""`rowfleet purge` on a deployment; `test_cli_secrets` has the one on a laptop."""

from tests.acceptance.support import Deployment, HttpAgent, until


def test_a_batch_is_purged(deployment: Deployment, agent: HttpAgent) -> None:
    """Nothing is left of it in table and bucket but its source; it has to have ended, and to be meant."""
    agent.answer = lambda body: (200, {"category": body["name"], "said": body["name"] * 100})
    agent.hold()
    running = deployment.start("serve", "--roles", "splitter,worker,aggregator")
    deployment.write("in.csv", "name\nann\nbob\ncid\n")
    batch = deployment("submit", "in.csv", "--mapping", "up").stdout.strip()
    until(lambda: agent.calls, "the first call")
    refused = deployment("purge", batch, "--yes")
    assert refused.code == 2
    assert f"only a batch that has ended can be purged; `rowfleet cancel {batch}` ends it" in refused.stderr
    agent.release()
    status = deployment.ended(batch)
    assert running.stop().code == 0
    refused = deployment("purge", batch)
    assert (refused.code, "give --yes" in refused.stderr) == (2, True)
    before = keys(deployment)
    assert any(key.endswith(".zst") for key in before)
    assert deployment.get(status["output"])

    done = deployment("purge", batch, "--yes", "--json")
    assert (done.code, done.json["batch_id"], done.json["rows"]) == (0, batch, 3)
    scan = deployment.dynamodb.get_paginator("scan").paginate(TableName=deployment.names.table)
    left = [item["batch_id"]["S"] for page in scan for item in page["Items"]]
    assert [name for name in left if name.startswith(batch)] == []
    gone = [key for key in before if key not in keys(deployment)]
    assert done.json["objects"] == len(gone)
    assert [key for key in keys(deployment) if not key.endswith("/in.csv")] == []
    again = deployment("purge", batch, "--yes")
    assert (again.code, "there is no batch" in again.stderr) == (2, True)


def keys(deployment: Deployment) -> list[str]:
    """The keys of all objects in the bucket."""
    listed = deployment.s3.list_objects_v2(Bucket=deployment.names.bucket)
    return [entry["Key"] for entry in listed.get("Contents", ())]
