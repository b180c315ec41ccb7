"""All that `terraform apply` promises, on an emulator that runs the real image: apply, drop, destroy."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from service.app.aws.scaling import handler
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from tests.acceptance.support import HttpAgent, serve_agent
from tests.infra.autoscaling import autoscaling
from tests.infra.emulator import Emulator, bridge_address, build_image, docker, emulator, until
from tests.infra.terraform import Terraform, require_terraform

pytestmark = [pytest.mark.terraform, pytest.mark.docker, pytest.mark.timeout(900)]

IMAGE = f"000000000000.dkr.ecr.{REGION}.amazonaws.com/rowfleet-infra:with-credentials"
ENDPOINTS = "cloudwatch dynamodb ec2 ecr ecs events iam kms lambda logs s3 secretsmanager sfn sns sqs ssm sts"

# Attributes that ministack forgets, so that a second plan would set them again. No other may differ.
FORGOTTEN = {
    "aws_cloudwatch_metric_alarm": {
        "actions_enabled",
        "alarm_actions",
        "alarm_description",
        "datapoints_to_alarm",
        "ok_actions",
        "treat_missing_data",
    },
    "aws_ecs_service": {"availability_zone_rebalancing"},
    "aws_lambda_function": {"image_config"},
    "aws_vpc_endpoint": {"policy"},
}

MAPPING = """
target: {{ type: tool, name: shout, invoke: http, url: "${{AGENT_URL}}" }}
input_mapping: {{ column_mappings: {{ name: name }} }}
output_mapping:
  type: tool
  extraction_methods:
    - {{ method: direct, field_mappings: {{ {field}: "$.category" }} }}
execution: {{ timeout_seconds: 40 }}
"""

MAIN = """
variable "endpoint" {{ type = string }}
variable "autoscaling" {{ type = string }}

provider "aws" {{
  region                      = "{region}"
  access_key                  = "{access_key}"
  secret_key                  = "{secret_key}"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true

  endpoints {{
{endpoints}
    applicationautoscaling = var.autoscaling
  }}
}}

resource "aws_secretsmanager_secret" "agent" {{
  name                    = "{prefix}-agent"
  recovery_window_in_days = 0
}}

resource "aws_secretsmanager_secret_version" "agent" {{
  secret_id     = aws_secretsmanager_secret.agent.id
  secret_string = jsonencode({{ url = "{agent}" }})
}}

module "rowfleet" {{
  source = "./module"

  prefix        = "{prefix}"
  image         = "{image}"
  repository    = {{ name = "rowfleet-infra" }}
  scaling       = "{scaling}"
  worker        = {{ min_tasks = {fewest}, max_tasks = 2, backlog_per_task = 20 }}
  scaler        = {{ idle_minutes = 1, cooldown_s = 10 }}
  architecture  = "X86_64"
  agent_secrets = {{ AGENT_URL = "${{aws_secretsmanager_secret_version.agent.arn}}:url::" }}
  mappings_dir  = "${{path.root}}/mappings"
  protect_data  = false
}}

output "cli_environment" {{
  value = module.rowfleet.cli_environment
}}

output "bucket" {{
  value = module.rowfleet.bucket
}}
"""


class Times:
    """The duration of each phase, for the report."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the duration of a block."""
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started

    def __str__(self) -> str:
        lines = [f"  {name:<45} {seconds:6.1f} s" for name, seconds in self.seconds.items()]
        return "\n".join(["", self.title, *lines, f"  {'all':<45} {sum(self.seconds.values()):6.1f} s"])


class Deployed:
    """An applied module, used like a user: through the bucket and the command line.

    With a scaler its handler is called, in the environment that the module gives to the function: not once a
    minute, but whenever the test waits.
    """

    def __init__(self, aws: Emulator, terraform: Terraform, prefix: str, scaling: str) -> None:
        self.aws = aws
        self.terraform = terraform
        self.prefix = prefix
        self.has_scaler = scaling == "scaler"
        self.s3 = aws.client("s3")
        self.bucket = terraform.run("output", "-raw", "bucket")

    def function_environment(self) -> dict[str, str]:
        """The environment of the scaler's function, with the emulator for AWS."""
        function = self.aws.client("lambda").get_function_configuration(FunctionName=f"{self.prefix}-scaler")
        environment: dict[str, str] = function["Environment"]["Variables"]
        return environment | {
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.aws.url,
        }

    def scale(self) -> None:
        """What happens once a minute."""
        if self.has_scaler:
            handler({"source": "aws.events"})

    def sizes(self) -> dict[str, int]:
        """The desired tasks of each service."""
        services = ["worker", "control"]
        found = self.aws.client("ecs").describe_services(cluster=self.prefix, services=services)["services"]
        return {service["serviceName"]: service["desiredCount"] for service in found}

    def drop(self, name: str, rows: int) -> list[dict[str, str]]:
        """Upload a CSV that starts a batch, and wait for its manifest. Return the rows of the output."""
        text = "name\n" + "".join(f"row {number}\n" for number in range(1, rows + 1))
        self.s3.put_object(Bucket=self.bucket, Key=f"incoming/shout/{name}.csv", Body=text.encode())
        before = set(self._manifests())

        def written() -> set[str]:
            self.scale()
            return set(self._manifests()) - before

        manifest = until(written, self.diagnosis).pop()
        counts = json.loads(self._read(manifest))
        failures = self._read(manifest.replace("manifest.json", "failures.csv")) if counts["failed"] else b""
        assert (counts["total"], counts["succeeded"]) == (rows, rows), failures[:2000]
        output = self._read(manifest.replace("manifest.json", "output.csv")).decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(output)))

    def _manifests(self) -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix="results/").get("Contents", [])
        return [entry["Key"] for entry in listed if entry["Key"].endswith("/manifest.json")]

    def _read(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def setup(self) -> list[str]:
        """The output of `rowfleet setup --check` with the environment that the module outputs."""
        exports = dict(
            line.removeprefix("export ").split("=", 1)
            for line in self.terraform.run("output", "-raw", "cli_environment").splitlines()
        )
        exports |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        exports["AWS_ENDPOINT_URL"] = self.aws.url
        done = subprocess.run(
            [sys.executable, "-m", "service", "setup", "--check"],
            env={**os.environ, **exports, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def diagnosis(self) -> str:
        """The last log lines of the emulator and of every task."""
        said = [self.aws.log.read_text("utf-8", "replace")[-3000:]]
        for id_ in docker("ps", "--all", "--quiet", "--filter", "name=ministack-ecs-").split():
            logs = subprocess.run(
                ["docker", "logs", "--tail", "20", id_], capture_output=True, text=True, check=False
            )
            said.append(f"--- task {id_}\n{logs.stdout}{logs.stderr}")
        return "\n".join(said)


def write_root(folder: Path, prefix: str, agent: HttpAgent, scaling: str) -> None:
    """Write a user's root module, with the emulator's address for AWS."""
    endpoints = "\n".join(f"    {name} = var.endpoint" for name in ENDPOINTS.split())
    text = MAIN.format(
        region=REGION,
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        endpoints=endpoints,
        prefix=prefix,
        image=IMAGE,
        agent=agent.url,
        scaling=scaling,
        fewest=0 if scaling == "scaler" else 2,
    )
    (folder / "main.tf").write_text(text, "utf-8")
    (folder / "mappings").mkdir()


def write_mapping(folder: Path, field: str) -> None:
    """Write a mapping whose output column is `field`."""
    (folder / "mappings/shout.yaml").write_text(MAPPING.format(field=field), "utf-8")


def remove_tasks(prefix: str) -> None:
    """Remove containers of this test's cluster that a failure has left."""
    named = docker("ps", "--all", "--format", '{{.ID}} {{.Label "com.amazonaws.ecs.cluster"}}')
    for line in named.splitlines():
        id_, _, cluster = line.partition(" ")
        if cluster.endswith(f"/{prefix}"):
            docker("rm", "--force", id_)


def left_over(aws: Emulator, prefix: str, bucket: str) -> list[Any]:
    """Resources that a destroy should have removed but has not."""
    found: list[Any] = list(aws.client("sqs").list_queues(QueueNamePrefix=prefix).get("QueueUrls", []))
    found += [name for name in aws.client("dynamodb").list_tables()["TableNames"] if name.startswith(prefix)]
    with suppress(ClientError):
        found.append(aws.client("s3").head_bucket(Bucket=bucket) and bucket)
    return found


def not_forgotten(changes: dict[str, set[str]]) -> dict[str, set[str]]:
    """Changes that are not explained by attributes that ministack forgets."""
    left = {
        address: attributes
        - FORGOTTEN.get(re.sub(r"(module\.\w+(\[0\])?\.)*", "", address).split(".")[0], set())
        for address, attributes in changes.items()
    }
    return {address: attributes for address, attributes in left.items() if attributes}


@pytest.fixture(scope="module")
def image() -> str:
    """The real image, with credentials for the emulator."""
    require_terraform()
    bridge_address()
    build_image(IMAGE)
    return IMAGE


@contextmanager
def applied(folder: Path, times: Times, scaling: str) -> Iterator[tuple[Deployed, HttpAgent]]:
    """A root module of a user, applied, until the block ends; its tasks end with it."""
    address, prefix = bridge_address(), f"rf{uuid.uuid4().hex[:8]}"
    with (
        serve_agent(address) as agent,
        emulator(address, folder) as aws,
        autoscaling() as scalable_targets,
    ):
        write_root(folder, prefix, agent, scaling)
        write_mapping(folder, "shouted")
        variables = {"TF_VAR_endpoint": aws.url, "TF_VAR_autoscaling": scalable_targets}
        terraform = Terraform(folder, variables)
        try:
            with times.phase("terraform init"):
                terraform.init()
            with times.phase("terraform apply"):
                terraform.run("apply", "-auto-approve", "-input=false", "-no-color")
            yield Deployed(aws, terraform, prefix, scaling), agent
        finally:
            remove_tasks(prefix)


@pytest.mark.parametrize("scaling", ["alarms", "scaler"])
def test_apply_drop_change_drop_destroy(copied, tmp_path, capsys, image, scaling, monkeypatch):
    """One apply runs the image: a CSV is processed, a changed mapping used, and a destroy leaves nothing."""
    times = Times(f"apply, drop, destroy, scaling = {scaling}")
    copied.rename(tmp_path / "module")
    with applied(tmp_path, times, scaling) as (deployed, agent):
        terraform = deployed.terraform
        if deployed.has_scaler:
            for name, value in deployed.function_environment().items():
                monkeypatch.setenv(name, value)
            assert deployed.sizes() == {"worker": 0, "control": 0}
        with times.phase("a CSV dropped, 200 rows: to its manifest"):
            rows = deployed.drop("first", 200)
        assert [row["output_shouted"] for row in rows] == [f"ROW {number}" for number in range(1, 201)]

        said = deployed.setup()
        assert [line for line in said if not line.endswith("found")] == []

        with times.phase("second plan"):
            changes = terraform.changes()
        assert not_forgotten(changes) == {}

        write_mapping(tmp_path, "loud")
        with times.phase("terraform apply of a changed mapping"):
            terraform.run("apply", "-auto-approve", "-input=false", "-no-color")
        with times.phase("another CSV dropped, 50 rows"):
            rows = deployed.drop("second", 50)
        assert [row["output_loud"] for row in rows] == [f"ROW {number}" for number in range(1, 51)]
        assert sorted(agent.names()) == sorted(
            [f"row {number}" for number in range(1, 201)] + [f"row {number}" for number in range(1, 51)]
        )
        if deployed.has_scaler:
            with times.phase("back to zero"):
                until(lambda: deployed.scale() or not any(deployed.sizes().values()), deployed.diagnosis)

        with times.phase("terraform destroy"):
            terraform.run("destroy", "-auto-approve", "-input=false", "-no-color")
        assert left_over(deployed.aws, deployed.prefix, deployed.bucket) == []
    with capsys.disabled():
        sys.stdout.write(f"{times}\n")
