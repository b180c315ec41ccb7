"""The scaler sees a real drop: it wakes the fleet, keeps it while rows are left, and lets it rest."""

import json
import uuid

import botocore.session
import pytest

from service.app.aws.scaling import handler
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from tests.acceptance.support import Deployment, HttpAgent, people, until
from tests.unit.app.aws.stub_lambda import StubLambda

SERVICES = {
    "worker": {"minimum": 0, "maximum": 3, "backlog_per_task": 5, "roles": ["worker"]},
    "control": {"minimum": 0, "maximum": 1, "roles": ["splitter", "aggregator", "sweeper"]},
}


class Cluster:
    """A cluster with the two services, whose tasks the test starts itself."""

    def __init__(self, endpoint: str) -> None:
        self.name = f"c{uuid.uuid4().hex[:12]}"
        self._ecs = botocore.session.get_session().create_client(
            "ecs", region_name=REGION, endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip
        self._ecs.create_cluster(clusterName=self.name)
        container = {"name": "main", "image": "none", "memory": 64}
        self._ecs.register_task_definition(family=self.name, containerDefinitions=[container])
        for service in SERVICES:
            self._ecs.create_service(
                cluster=self.name, serviceName=service, taskDefinition=self.name, desiredCount=0
            )

    def desired(self) -> tuple[int, ...]:
        """The desired tasks of workers and of control."""
        found = self._ecs.describe_services(cluster=self.name, services=list(SERVICES))["services"]
        counts = {service["serviceName"]: service["desiredCount"] for service in found}
        return tuple(counts[name] for name in SERVICES)


@pytest.fixture
def cluster(endpoint: str, deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster; the environment, and so the handler, is that of the deployment and its scaler.

    The test event that S3 has sent with the notification is gone.
    """
    made = Cluster(endpoint)
    deployment.sqs.purge_queue(QueueUrl=deployment.queue("ingest"))
    deployment.env |= {
        "ROWFLEET_SCALER__CLUSTER": made.name,
        "ROWFLEET_SCALER__SERVICES": json.dumps(SERVICES),
        "ROWFLEET_SCALER__IDLE_S": "0.5",
        "ROWFLEET_SCALER__COOLDOWN_S": "0.2",
    }
    monkeypatch.chdir(deployment.folder)
    for name, value in deployment.env.items():
        monkeypatch.setenv(name, value)
    return made


def test_from_a_drop_to_rest(deployment: Deployment, agent: HttpAgent, cluster: Cluster) -> None:
    """Nothing runs before the drop and after the results; the fleet follows the rows in between."""
    assert handler({})["services"]["control"]["desired"] == 0
    assert cluster.desired() == (0, 0)

    deployment.put("incoming/up/people.csv", people(40))
    answer = until(lambda: (answer := handler({}))["backlog"]["ingest"] and answer, "the job")
    assert answer["services"]["control"]["reasons"] == ["messages in ingest: 1"]
    assert cluster.desired() == (1, 1)

    agent.hold()
    control = deployment.start("serve", "--roles", "splitter,aggregator,sweeper")
    until(lambda: handler({})["unfinished_batches"], "the batch")
    (batch,) = [line["batch_id"] for line in deployment("list", "--aws", "--json").json]
    until(lambda: deployment.state(batch) == "RUNNING", "the seal")
    handler({})
    assert cluster.desired() == (3, 1)

    worker = deployment.start("serve", "--roles", "worker")
    until(lambda: agent.calls, "the first call")
    assert handler({})["services"]["worker"]["demand"] == 8
    agent.release()
    assert deployment.ended(batch)["succeeded"] == 40
    until(lambda: handler({}) and cluster.desired() == (0, 0), "the rest")
    for process in (worker, control):
        assert process.stop().code == 0


def test_the_command_says_why(deployment: Deployment, cluster: Cluster) -> None:
    """A dry run changes nothing; without the option it does as the Lambda does."""
    deployment.send_job(mapping="up", source="s3://bucket/key.csv")
    shown = deployment("scaler", "--dry-run")
    assert shown.code == 0, shown.stderr
    assert shown.stdout.splitlines() == [
        "worker: 0 -> 1 tasks (0 running; work for 1; at least 0, at most 3)",
        "  messages in ingest: 1",
        "control: 0 -> 1 tasks (0 running; work for 1; at least 0, at most 1)",
        "  messages in ingest: 1",
        "nothing was changed: a dry run",
    ]
    assert cluster.desired() == (0, 0)
    done = deployment("scaler", "--json")
    assert done.json["carried_out"] is True
    assert cluster.desired() == (1, 1)


def test_as_a_lambda_function(deployment: Deployment, cluster: Cluster) -> None:
    """It looks at every invocation, and answers with its decision."""
    deployment.send_job(mapping="up", source="s3://bucket/key.csv")
    with (stub := StubLambda(({"source": "aws.events"}, 600), ({}, 600))).running():
        done = deployment("scaler", AWS_LAMBDA_RUNTIME_API=stub.address, ROWFLEET_LOG_FORMAT="json")
    assert "runtime API answers 500" in done.stderr  # after the last invocation
    (first, answer), (second, _) = stub.posts
    assert (first, second) == ("/invocation/id-1/response", "/invocation/id-0/response")
    assert answer["services"]["worker"]["desired"] == 1
    assert cluster.desired() == (1, 1)
    scaled = [json.loads(line) for line in done.stderr.splitlines() if "service_scaled" in line]
    assert [line["service"] for line in scaled] == ["worker", "control"]
    assert '"desired_tasks_worker":[1' in done.stdout


@pytest.mark.parametrize("services", ["", "{}", '{"none": {"roles": ["worker"]}}'])
def test_as_a_lambda_function_that_cannot_work(
    deployment: Deployment, cluster: Cluster, services: str
) -> None:
    """Without services it cannot begin; a service that is missing fails the invocation."""
    with (stub := StubLambda(({}, 600))).running():
        deployment("scaler", AWS_LAMBDA_RUNTIME_API=stub.address, ROWFLEET_SCALER__SERVICES=services)
    ((path, error),) = stub.posts
    if "none" in services:
        assert path == "/invocation/id-0/error"
        assert "service none does not exist" in error["errorMessage"]
    else:
        assert path == "/init/error"
        assert "ROWFLEET_SCALER__SERVICES" in error["errorMessage"]


def test_a_command_without_its_settings(deployment: Deployment) -> None:
    """It names the setting that is missing."""
    done = deployment("scaler")
    assert (done.code, done.stderr.strip()) == (2, "rowfleet: the scaler needs ROWFLEET_SCALER__CLUSTER")
