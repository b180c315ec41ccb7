"""Dead letters as an operator meets them: counted, listed, shown, sent again, deleted."""

import json
import urllib.request

from tests.acceptance.support import Deployment, HttpAgent, people, until

SOON = {"ROWFLEET_SWEEP__INTERVAL_S": "0.5", "ROWFLEET_SWEEP__DEAD_LETTERS_PAUSE_S": "600"}


def page(url: str) -> str:
    """The body of a page."""
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def test_a_malformed_dead_letter_is_seen_and_dropped(deployment: Deployment) -> None:
    """It is logged with its reason, visible to an alarm between passes, listed, shown, and deleted."""
    url = deployment.queue("rows-dlq")
    sent = deployment.sqs.send_message(QueueUrl=url, MessageBody='{"junk": 1}')["MessageId"]
    service = deployment.start("serve", "--roles", "sweeper", **SOON)
    service.until(lambda: service.events("message_poisoned"), "the report")

    def visible() -> int:
        found = deployment.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(found["ApproximateNumberOfMessages"])

    until(lambda: visible() == 1, "the end of the pass")
    ready = json.loads(page(service.started() + "/readyz"))
    assert ready["dead_letters"][f"{deployment.names.prefix}-rows-dlq"] == 1
    listed = deployment("dead-letters", "list", "--json")
    [letter] = listed.json
    assert {"queue": "rows", "id": sent, "batch_id": None, "body": '{"junk": 1}'}.items() <= letter.items()
    assert letter["reason"] == "'cells' is missing or not a list"
    shown = deployment("dead-letters", "show", sent)
    assert (shown.code, shown.stdout) == (0, '{"junk": 1}\n')
    assert "about 1 dead letter (rows 1)" in deployment("list").stderr
    refused = deployment("dead-letters", "drop", sent)
    assert (refused.code, "--yes" in refused.stderr) == (2, True)
    assert deployment("dead-letters", "drop", "--yes", "nobody").code == 2
    dropped = deployment("dead-letters", "drop", "--yes", sent)
    assert (dropped.code, dropped.stdout) == (0, "1 dead letter deleted\n")
    assert deployment("dead-letters", "list", "--json").json == []
    assert service.stop().code == 0


def test_a_retried_job_is_run(deployment: Deployment, agent: HttpAgent) -> None:
    """The table was out of reach when the file was dropped; an operator sends the dead job again."""
    source = deployment.put("sources/in.csv", people(5))
    body = json.dumps({"v": 1, "mapping": "up", "source": source})
    dead = deployment.queue("ingest-dlq")
    deployment.sqs.send_message(QueueUrl=dead, MessageBody=body)
    retried = deployment("dead-letters", "retry", "--all", "--json")
    assert retried.json == {"messages": 1}
    service = deployment.start("serve", **SOON)
    until(lambda: deployment("list", "--json").json, "the batch")
    [batch] = deployment("list", "--json").json
    status = deployment.ended(batch["batch_id"])
    assert (status["state"], status["succeeded"]) == ("SUCCEEDED", 5)
    assert len(agent.names()) == 5
    assert service.stop().code == 0
