"""Batches beside each other: a small one does not wait for large ones to end."""

from collections import Counter
from pathlib import Path

from service.adapters.aws.provision.resources import ResourceNames
from tests.acceptance.support import Cli, Deployment, HttpAgent, until
from tests.acceptance.test_cli_local import exports

LARGE = 5
"""One more than a process splits at the same time."""
LARGE_ROWS = 1_000
SMALL_ROWS = 10


def test_ten_rows_behind_large_batches_are_done_before_any_of_them(
    cli: Cli, agent: HttpAgent, tmp_path_factory
) -> None:
    """On the embedded endpoint too, whose queues know nothing of fairness, and with the same mapping.

    The agent answers no call until the small file is split. Then the order of its calls shows who waited.
    """
    agent.hold()
    local = client_of(exports(cli.start("local", "--port", 0)), tmp_path_factory.mktemp("client"))
    sizes = {f"large-{n}": LARGE_ROWS for n in range(LARGE)} | {"small": SMALL_ROWS}
    for batch, rows in sizes.items():
        source = local.put(f"{batch}.csv", "name\n" + "".join(f"{batch}/{row}\n" for row in range(rows)))
        local.send_job(mapping="up", source=source, execution_id=batch)
    until(lambda: local.state("up#small") == "RUNNING", "the end of the small file's split")
    agent.release()
    until(lambda: local.state("up#small") == "SUCCEEDED", "the end of the small batch")

    assert local.counted("up#small") == (SMALL_ROWS, 0)
    called = [name.partition("/")[0] for name in agent.names()]
    last_of_small = len(called) - 1 - called[::-1].index("small")
    before = Counter(called[:last_of_small])
    assert max(before[batch] for batch in sizes if batch != "small") < LARGE_ROWS


def client_of(variables: dict[str, str], root: Path) -> Deployment:
    """Clients of the endpoint that `rowfleet local` has printed the variables of."""
    names = ResourceNames(*(variables[f"ROWFLEET_{name}"] for name in ("BUCKET", "TABLE", "PREFIX")))
    return Deployment(root, {}, variables["AWS_ENDPOINT_URL"], names)
