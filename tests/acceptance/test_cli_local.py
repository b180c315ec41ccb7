"""`rowfleet local` with the ordinary AWS CLI, and the addresses that it listens on."""

import json
import re
from pathlib import Path

import pytest

from tests.acceptance.support import Cli, HttpAgent, Running, people, table, until

PROC = Path("/proc")
LISTEN = "0A"


def exports(running: Running) -> dict[str, str]:
    """The variables that `local` prints for export, once its last line is there."""
    text = running.until(lambda: running.stdout if "# Ctrl-C" in running.stdout else "", "the export lines")
    return dict(re.findall(r"^export (\w+)=(\S+)$", text, flags=re.MULTILINE))


def keys(cli: Cli, variables: dict[str, str], prefix: str) -> list[str]:
    """The keys under a prefix of the bucket."""
    arguments = ["--bucket", variables["ROWFLEET_BUCKET"], "--prefix", prefix, "--output", "json"]
    done = cli.aws("s3api", "list-objects-v2", *arguments, **variables)
    assert done.code == 0, done.stderr
    return [entry["Key"] for entry in json.loads(done.stdout or "{}").get("Contents", [])]


def results(cli: Cli, variables: dict[str, str], prefix: str) -> dict[str, bytes]:
    """Wait for `latest.json`, which is written last, and copy all files beside it: name -> bytes."""
    until(lambda: any(key.endswith("latest.json") for key in keys(cli, variables, prefix)), "latest.json")
    target = cli.folder / "copied" / prefix
    url = f"s3://{variables['ROWFLEET_BUCKET']}/{prefix}"
    done = cli.aws("s3", "cp", "--recursive", "--quiet", url, target, **variables)
    assert done.code == 0, done.stderr
    return {path.name: path.read_bytes() for path in target.rglob("*") if path.is_file()}


def test_the_aws_cli_drops_a_file_and_sends_a_job(cli: Cli, agent: HttpAgent) -> None:
    """`aws s3 cp` and `aws sqs send-message` each start a run with the printed variables; SIGTERM: exit 0."""
    local = cli.start("local", "--port", 0)
    variables = exports(local)
    cli.write("in.csv", "name,n\nann,1\nbad bob,2\ncid,3\n")
    bucket = variables["ROWFLEET_BUCKET"]

    copied = cli.aws("s3", "cp", "in.csv", f"s3://{bucket}/incoming/up/my in+file.csv", **variables)
    assert copied.code == 0, copied.stderr

    dropped = results(cli, variables, "results/up/")
    assert set(dropped) == {"output.csv", "failures.csv", "manifest.json", "latest.json"}
    assert [row["output_category"] for row in table(dropped["output.csv"])] == ["ANN", "", "CID"]
    assert [row["name"] for row in table(dropped["failures.csv"])] == ["bad bob"]
    manifest = json.loads(dropped["manifest.json"])
    assert (manifest["total"], manifest["succeeded"], manifest["failed"]) == (3, 2, 1)
    check_rows(cli, variables, manifest["batch_id"])

    cli.write("more.csv", people(3))
    copied = cli.aws("s3", "cp", "more.csv", f"s3://{bucket}/anywhere/more.csv", **variables)
    assert copied.code == 0, copied.stderr
    job = {
        "v": 1, "mapping": "up", "source": f"s3://{bucket}/anywhere/more.csv", "execution_id": "exec-123",
        "output": f"s3://{bucket}/elsewhere/", "options": {"limit": 2},
    }  # fmt: skip
    # Version 1 of the AWS CLI goes to queue.amazonaws.com unless told so on the command line.
    sqs = ["sqs", "--endpoint-url", variables["AWS_ENDPOINT_URL"], "--output", "json"]
    name = f"{variables['ROWFLEET_PREFIX']}-ingest"
    named = cli.aws(*sqs, "get-queue-url", "--queue-name", name, **variables)
    assert named.code == 0, named.stderr
    url = json.loads(named.stdout)["QueueUrl"]
    body = json.dumps(job)
    sent = cli.aws(*sqs, "send-message", "--queue-url", url, "--message-body", body, **variables)
    assert sent.code == 0, sent.stderr

    by_job = results(cli, variables, "elsewhere/")
    assert set(by_job) >= {"output.csv", "manifest.json", "latest.json"}
    assert json.loads(by_job["manifest.json"])["batch_id"] == "up#exec-123"
    assert [row["input_n"] for row in table(by_job["output.csv"])] == ["1", "2"]
    assert "elsewhere/failures.csv" not in keys(cli, variables, "elsewhere/")

    done = local.stop()
    assert done.code == 0, done.stderr
    assert "Traceback" not in done.stderr


def check_rows(cli: Cli, variables: dict[str, str], batch: str) -> None:
    """The rows in the table have the attributes of the original design, by name and type."""
    queried = cli.aws(
        "dynamodb", "query", "--table-name", variables["ROWFLEET_TABLE"], "--output", "json",
        "--key-condition-expression", "batch_id = :id AND begins_with(row_id, :row)",
        "--expression-attribute-values", json.dumps({":id": {"S": batch}, ":row": {"S": "row_"}}),
        **variables,
    )  # fmt: skip
    assert queried.code == 0, queried.stderr
    items = json.loads(queried.stdout)["Items"]
    assert [item["row_id"] for item in items] == [{"S": f"row_{n:010d}"} for n in (1, 2, 3)]
    design = {
        "batch_id": "S", "row_id": "S", "status": "S", "input_data": "M", "output_data": "M",
        "execution_time_ms": "N", "timestamp": "S", "ttl": "N",
    }  # fmt: skip
    for item in items:
        assert {name: next(iter(item[name])) for name in design} == design
        assert item["batch_id"]["S"] == batch
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", item["timestamp"]["S"])
        assert int(item["execution_time_ms"]["N"]) >= 0
        assert len(item["ttl"]["N"]) == 10
    assert [item["status"]["S"] for item in items] == ["SUCCESS", "FAILED", "SUCCESS"]
    assert items[0]["input_data"]["M"] == {"name": {"S": "ann"}, "n": {"S": "1"}}
    assert items[0]["output_data"]["M"] == {"category": {"S": "ANN"}}
    assert items[1]["output_data"]["M"] == {}


def test_data_survives_a_restart(cli: Cli) -> None:
    """With `--data DIR`, batches and results are still there after SIGTERM and a new start."""
    first = cli.start("local", "--port", 0, "--data", "kept")
    variables = exports(first)
    cli.write("in.csv", people(3))
    waited = cli("submit", "in.csv", "--mapping", "up", "--wait", "--json", **variables)
    assert waited.code == 0, waited.stderr
    assert first.stop().code == 0

    second = cli.start("local", "--port", 0, "--data", "kept")
    variables = exports(second)
    again = cli("status", waited.json["batch_id"], "--json", **variables)
    assert again.code == 0, again.stderr
    assert again.json == waited.json | {"dead_letters": {"ingest": 0, "rows": 0, "aggregate": 0}}
    output = results(cli, variables, f"results/up/{waited.json['execution_id']}/")["output.csv"]
    assert [row["input_n"] for row in table(output)] == ["1", "2", "3"]
    assert second.stop().code == 0


# -- addresses that it listens on ----------------------------------------------------------------------


def family(pid: int) -> set[int]:
    """A process and all its descendants."""
    parents = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> list[str]:
    """The addresses on which these processes listen by TCP or UDP, as the kernel writes them."""
    inodes = set()
    for pid in pids:
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            try:
                inodes.add(str(descriptor.readlink()))
            except OSError:
                continue  # it has just been closed
    found = []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in (PROC / "self/net" / protocol).read_text().splitlines()[1:]:
            fields = line.split()
            accepts = fields[3] == LISTEN if protocol.startswith("tcp") else fields[2].endswith(":0000")
            if accepts and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1].rpartition(":")[0])
    return found


LOOPBACK = {"0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"}


linux = pytest.mark.skipif(not PROC.exists(), reason="listening sockets are read from /proc")


def check_reach(running: Running) -> set[int]:
    """Check that no process of the command listens beyond the loopback. Return its descendants."""
    processes = family(running.process.pid)
    addresses = listening(processes)
    assert len(addresses) >= 2
    assert set(addresses) <= LOOPBACK
    return processes - {running.process.pid}


@linux
def test_run_listens_nowhere(cli: Cli, agent: HttpAgent) -> None:
    """`run` opens no port, and starts no other process."""
    cli.write("in.csv", people(2))
    agent.hold()
    running = cli.start("run", "in.csv", "--mapping", "up")
    running.until(lambda: agent.calls, "a row at the agent")
    assert family(running.process.pid) == {running.process.pid}
    assert listening({running.process.pid}) == []
    agent.release()
    done = running.finish()
    assert done.code == 0, done.stderr


@linux
def test_run_on_the_emulator_is_not_reachable_from_the_network(cli: Cli, agent: HttpAgent) -> None:
    """No socket of `run --emulator` is open to the network: neither the endpoint nor the health page."""
    cli.write("in.csv", people(2))
    agent.hold()
    running = cli.start("run", "in.csv", "--mapping", "up", "--emulator")
    running.until(lambda: agent.calls, "a row at the agent")
    assert check_reach(running)
    agent.release()
    done = running.finish()
    assert done.code == 0, done.stderr


@linux
def test_local_is_not_reachable_and_leaves_nothing_behind(cli: Cli) -> None:
    """No socket of `local` is open to the network, and its endpoint ends with it, even after SIGKILL."""
    running = cli.start("local", "--port", 0)
    exports(running)
    children = check_reach(running)
    assert children
    running.process.kill()
    running.process.wait()
    until(lambda: not any((PROC / str(child)).exists() for child in children), "the end of the endpoint")
