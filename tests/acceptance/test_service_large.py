"""Rows and replies too large for queue and table, and malformed messages, in real processes."""

import csv
import json
from collections.abc import Iterator

import pytest

from service.adapters.aws.provision.queues import QueueOptions
from service.domain.ports import MESSAGE_BYTES
from tests.acceptance.support import (
    Deployment,
    HttpAgent,
    Running,
    people,
    serve_agent,
    table,
    unique_names,
    until,
)

HOSTILE_ROWS = {
    "another version": {"v": 2},
    "unknown batch": {"batch": "up#none"},
    "no batch": {"batch": 7},
    "a key no table takes": {"batch": "up#" + "e" * 5_000},
    "beyond the total": {"row": 4},
    "a row without a number": {"row": "1"},
    "a future round": {"round": 2},
    "a huge number": {"row": 10**30},
}


@pytest.fixture(scope="module")
def agent() -> Iterator[HttpAgent]:
    """One agent for the module."""
    with serve_agent() as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, endpoint: str, agent: HttpAgent) -> Iterator[Deployment]:
    """One deployment for the module."""
    root = tmp_path_factory.mktemp("large")
    made = Deployment(root, {"AGENT_URL": agent.url}, endpoint, unique_names())
    made.mapping()
    made.provision(QueueOptions(max_receives=2))
    yield made
    agent.release_all()
    made.close()


@pytest.fixture(scope="module")
def service(shared: Deployment) -> Iterator[Running]:
    """Three roles in one process. At the end its log must have no traceback."""
    running = shared.start("serve", "--roles", "splitter,worker,aggregator")
    running.started()
    yield running
    done = running.stop()
    assert done.code == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "handler_crashed" not in done.stderr


def test_large_rows_and_replies_come_out_whole(
    shared: Deployment, service: Running, agent: HttpAgent
) -> None:
    """Rows larger than a message and replies larger than an item come out among small ones, in file order."""
    names = [f"{n} " + "ü," * (400_000 if n == 2 else 220_000 if n == 4 else 1) for n in range(1, 7)]
    text = "name,n\n" + "".join(f'"{name}",{n}\n' for n, name in enumerate(names, 1))
    source = shared.write("large.csv", text)
    done = shared("submit", source, "--mapping", "up", "--wait", "--json")
    assert done.code == 0, done.stderr
    assert (done.json["succeeded"], done.json["failed"]) == (6, 0)
    usual = csv.field_size_limit(10**7)
    rows = table(shared.get(done.json["output"]))
    csv.field_size_limit(usual)
    assert [row["input_name"] for row in rows] == names
    assert [row["output_category"] for row in rows] == [name.upper() for name in names]
    kept = shared.s3.list_objects_v2(Bucket=shared.names.bucket, Prefix="work/up/")["Contents"]
    # each beside the reply, which is in a pack
    assert len([found for found in kept if "/replies/" not in found["Key"]]) == 2


def test_a_failed_row_is_shown_whole(shared: Deployment, service: Running, agent: HttpAgent) -> None:
    """`errors --row` finds a reply that is kept in S3."""
    usual, agent.answer = agent.answer, lambda body: (200, {"refused": body["name"][:5]})
    try:
        source = shared.write("refused.csv", "name,n\n" + "x" * 450_000 + ",1\n")
        done = shared("submit", source, "--mapping", "up", "--wait", "--json")
    finally:
        agent.answer = usual
    assert done.code == 3, done.stderr
    shown = shared("errors", done.json["batch_id"], "--row", "1", "--json").json
    assert shown["reply"] == '{"refused":"xxxxx"}'
    assert len(shown["input_data"]["name"]) == 450_000


def test_at_its_deadline_a_batch_ends(shared: Deployment, service: Running, agent: HttpAgent) -> None:
    """At the deadline rows at the agent and waiting rows are FAILED, and the output is written."""
    agent.hold()
    try:
        source = shared.write("late.csv", people(5))
        done = shared("submit", source, "--mapping", "up", "--deadline", "2", "--wait", "--json")
    finally:
        agent.release()
    assert done.code == 3, done.stderr
    assert (done.json["state"], done.json["failed"]) == ("COMPLETED_WITH_ERRORS", 5)
    assert done.json["deadline_at"] > done.json["started_at"]
    rows = table(shared.get(done.json["output"]))
    assert all(row["_error"].startswith("DeadlineError: the batch's deadline, ") for row in rows)
    assert shared("status", done.json["batch_id"]).code == 0


def test_hostile_messages_are_logged_and_never_counted(shared: Deployment, service: Running) -> None:
    """Every malformed message is logged with a reason and not counted. Good rows are processed meanwhile."""
    source = shared.write("good.csv", people(3))
    first = shared("submit", source, "--mapping", "up", "--execution-id", "first", "--wait", "--json").json
    incarnation = shared.item("up#first")["incarnation"]["S"]
    batch = {"v": 1, "batch": "up#first", "round": 1, "incarnation": incarnation}
    row = batch | {"row": 1, "cells": ["x", "1"]}
    junk = ["x" * MESSAGE_BYTES, "[" * 50_000, "null", '{"v":1}']
    bodies = {
        "rows": [*junk, *(json.dumps(row | change) for change in HOSTILE_ROWS.values())],
        "aggregate": [
            *junk,
            '{"v":1,"batch":"up#none","round":1}',
            json.dumps(batch | {"round": 1000}),
        ],
        "ingest": [*junk, '{"mapping":"up","source":"s3://x"}', '{"Records":[7]}'],
    }
    before = len(service.events("message_poisoned"))
    for role, hostile in bodies.items():
        for body in hostile:
            shared.sqs.send_message(QueueUrl=shared.queue(role), MessageBody=body)
    strays = [json.dumps(row), json.dumps(batch)]
    for role, body in zip(("rows", "aggregate"), strays, strict=True):
        shared.sqs.send_message(QueueUrl=shared.queue(role), MessageBody=body)
    second = shared("submit", source, "--mapping", "up", "--execution-id", "second", "--wait", "--json")
    assert second.code == 0, second.stderr
    count = sum(map(len, bodies.values()))
    until(
        lambda: len({line["message_id"] for line in service.events("message_poisoned")[before:]}) == count,
        "a line for every hostile message",
    )
    assert all(line["reason"] for line in service.events("message_poisoned"))
    until(lambda: service.events("row_dropped"), "the row of a batch that has ended")
    until(lambda: service.events("aggregation_not_due"), "the results that are written already")
    status = shared.status("up#first")
    assert status is not None
    assert {name: value for name, value in status.items() if name != "dead_letters"} == first
    assert shared.counted("up#first") == (3, 0)
    assert shared.counted("up#second") == (3, 0)
