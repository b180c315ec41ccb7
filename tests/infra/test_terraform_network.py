"""Changes of the network of a running deployment: services move before the network they leave is destroyed.

AWS refuses to remove what a task uses, so the other order would wait for itself.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY, EmbeddedProcess
from tests.infra.terraform import MODULE, Terraform, require_terraform

pytestmark = [pytest.mark.terraform, pytest.mark.timeout(600), pytest.mark.xdist_group("terraform")]

SERVICE = "[root] terraform_data.service"
ALL = {"vpc", "subnet", "internet_gateway", "nat_gateway", "eip", "route", "route_table", "vpc_endpoint"}

# changed variables of a network behind a NAT gateway; types of resources that are destroyed, among others
CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "an existing VPC": (
        {
            "network": "existing",
            "existing_vpc": {"vpc_id": "${aws_vpc.team.id}", "subnet_ids": ["${aws_subnet.team.id}"]},
        },
        ALL | {"security_group", "vpc_security_group_egress_rule"},
    ),
    "other addresses of the VPC": (
        {"network": "nat", "vpc_cidr": "10.80.0.0/16"}, ALL | {"security_group"},
    ),
    "another first zone": (
        {"network": "nat", "availability_zones": [f"{REGION}b", f"{REGION}c"]},
        {"subnet", "nat_gateway", "eip"},
    ),
    "no internet": (
        {"network": "isolated", "endpoint_services": ["sqs"]}, {"subnet", "nat_gateway", "internet_gateway"},
    ),
    "groups of the team": (
        {"network": "nat", "security_group_ids": ["${aws_default_security_group.team.id}"]},
        {"security_group"},
    ),
}  # fmt: skip


def root(url: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """A root module with the network, a VPC of the team, and a service that stands for those of ECS."""
    vpc = "${aws_vpc.team.id}"
    uses = ["${module.network.subnet_ids}", "${module.network.security_group_ids}"]
    return {
        "provider": {
            "aws": {
                "region": REGION,
                "access_key": ACCESS_KEY,
                "secret_key": SECRET_KEY,
                "skip_credentials_validation": True,
                "skip_metadata_api_check": True,
                "endpoints": [{"ec2": url, "sts": url}],
            }
        },
        "module": {"network": {"source": "./network", "prefix": "rowfleet", **variables}},
        "resource": {
            "aws_vpc": {"team": {"cidr_block": "10.90.0.0/16"}},
            "aws_subnet": {"team": {"vpc_id": vpc, "cidr_block": "10.90.0.0/24"}},
            "aws_default_security_group": {"team": {"vpc_id": vpc}},
            "terraform_data": {"service": {"input": uses}},
        },
    }


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """URL of an embedded endpoint."""
    process = EmbeddedProcess.start()
    yield process.url
    process.stop()


@pytest.fixture(scope="module")
def applied(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """A network behind a NAT gateway."""
    require_terraform()
    folder = tmp_path_factory.mktemp("network")
    without = shutil.ignore_patterns(".terraform*")
    shutil.copytree(MODULE / "modules/network", folder / "network", ignore=without)
    (folder / "main.tf.json").write_text(json.dumps(root(endpoint, {"network": "nat"})), "utf-8")
    made = Terraform(folder)
    made.init()
    made.run("apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=40")
    return made


def steps_before(graph: str, step: str) -> set[str]:
    """The steps of an apply that have to end before `step` begins."""
    needs: dict[str, set[str]] = defaultdict(set)
    for one, other in re.findall(r'^\s+"((?:[^"\\]|\\.)*)" -> "((?:[^"\\]|\\.)*)"', graph, re.MULTILINE):
        needs[one].add(other)
    found: set[str] = set()
    waiting = [step]
    while waiting:
        new = needs[waiting.pop()] - found
        found |= new
        waiting += new
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_services_move_before_their_network_goes(change, applied, endpoint):
    """Each step that destroys a part of the network comes after the update of the service."""
    variables, expected = CHANGES[change]
    (applied.folder / "main.tf.json").write_text(json.dumps(root(endpoint, variables)), "utf-8")
    applied.run("plan", "-refresh=false", "-input=false", "-no-color", "-out=plan")
    graph = applied.run("graph", "-type=apply", "-plan=plan")
    destroyed = {
        # No task has the VPC's default group, and AWS does not remove it.
        step for step in re.findall(r'^\s+"(.*? \(destroy.*?\))" \[label', graph, re.MULTILINE)
        if "aws_default_security_group" not in step
    }  # fmt: skip
    assert expected <= {found[1] for step in destroyed if (found := re.search(r"\.aws_(\w+)\.", step))}
    assert [step for step in sorted(destroyed) if SERVICE not in steps_before(graph, step)] == []
