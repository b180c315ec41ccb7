"""Changes of the variables of a deployment that exists: what each ends, and that rows and data survive.

Each plan starts from an applied deployment, and the real provider decides what Terraform would do. A change
that ends something else than what is listed breaks running rows, or a promise in a variable's description.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.infra.change_cases import AUTOSCALING, BASE, CASES, DATA, EXISTING, TASKS, WATCH, WRONG
from tests.infra.deployment import (
    Change,
    Deployment,
    endpoints,
    new_deployment,
    state_of_old_root,
)
from tests.infra.terraform import Terraform, copy_of_module, require_terraform

pytestmark = [pytest.mark.terraform, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Deployment]]:
    """An applied deployment for each way to scale."""
    require_terraform()
    folder = tmp_path_factory.mktemp("applied")
    with endpoints() as at:
        made = {
            scaling: new_deployment(
                folder / scaling, at, {**BASE, "prefix": f"rf-{scaling}", "scaling": scaling}
            )
            for scaling in ("scaler", "alarms")
        }
        with ThreadPoolExecutor() as pool:
            list(pool.map(Deployment.apply, made.values()))
        yield made


@pytest.fixture(scope="module")
def plans(
    applied: dict[str, Deployment], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Change]]:
    """The planned changes of each case; two plans at a time."""
    folder = tmp_path_factory.mktemp("changed")

    def plan(name: str) -> dict[str, Change]:
        scaling, variables, _ = CASES[name]
        return applied[scaling].changed(folder / name.replace(" ", "_"), variables).plan()

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CASES, pool.map(plan, CASES), strict=True))


def ends(changes: dict[str, Change]) -> set[str]:
    """Resources that end, by type and label, without the module in front and the key behind."""
    return {
        re.sub(r"^(module\.\w+\[0\]\.)?(\w+\.\w+).*$", r"\2", address)
        for address, change in changes.items()
        if change.is_destroyed
    }


def updated(changes: dict[str, Change], address: str) -> frozenset[str]:
    """Names of attributes of a resource that are updated in place."""
    change = changes.get(address)
    return frozenset() if change is None or change.actions != ("update",) else change.attributes


@pytest.mark.parametrize("name", CASES)
def test_a_change_ends_only_what_it_must(plans, name):
    """The plan ends exactly the resources that are listed; data only where the variable names other data."""
    assert ends(plans[name]) == CASES[name][2]
    assert ends(plans[name]) & DATA == ({"aws_s3_bucket.data"} if name == "an existing bucket" else set())


def test_changes_reach_the_services(plans):
    """A change of Spot, network and version is an update of the services."""
    service = 'module.fleet[0].aws_ecs_service.service["worker"]'
    assert "capacity_provider_strategy" in updated(plans["less Spot"], service)
    assert "capacity_provider_strategy" in updated(plans["all Spot but one"], service)
    for name in ("an existing VPC", "behind NAT", "isolated", "own security groups", "other zones"):
        assert "network_configuration" in updated(plans[name], service), name
    for name in ("another image", "a proxy", "own roles"):
        assert "task_definition" in updated(plans[name], service), name


def test_a_fixed_fleet_is_a_scalable_target(plans):
    """Its minimum equals its maximum, and Application Auto Scaling keeps it there."""
    target = 'module.fleet[0].aws_appautoscaling_target.service["worker"]'
    assert {"min_capacity", "max_capacity"} <= updated(plans["a fixed fleet"], target)


def test_a_security_group_goes_after_its_successor(plans):
    """In another VPC the group is made anew before the old one goes, which running tasks still use."""
    assert plans["an existing VPC"]["module.network[0].aws_security_group.tasks[0]"].actions == (
        "create",
        "delete",
    )


def test_twelve_tags_are_not_on_objects(plans):
    """S3 allows ten tags on an object, so the uploaded files have none."""
    objects = [address for address in plans["twelve tags"] if "aws_s3_object" in address]
    assert objects == []
    assert "tags" in updated(plans["twelve tags"], "module.data[0].aws_dynamodb_table.results")


def test_changes_are_applied(applied, tmp_path):
    """A fixed fleet, then an elastic one, then the scaler, then another VPC: each apply succeeds."""
    deployment = applied["alarms"]
    for number, variables in enumerate(
        [
            {"worker": {"min_tasks": 3, "max_tasks": 3}},
            {"worker": {"min_tasks": 0, "max_tasks": 3, "spot_percent": 0}},
            {"scaling": "scaler"},
            {"network": "existing", "existing_vpc": EXISTING, "security_group_ids": ["sg-0abc"]},
        ]
    ):
        deployment = deployment.changed(tmp_path / str(number), variables)
        deployment.apply()


@pytest.mark.parametrize("scaling", ["alarms", "scaler"])
def test_an_upgrade_keeps_what_the_old_module_made(applied, tmp_path, scaling):
    """From the version before the submodules: only the two small services end, and what watched them."""
    upgraded = new_deployment(tmp_path / "root", applied["alarms"].at, {**BASE, "scaling": scaling})
    state_of_old_root(upgraded)
    changes = upgraded.plan()
    ended = {address: change for address, change in changes.items() if change.is_destroyed}
    small = {address for address in ended if "splitter" in address or "aggregator" in address}
    assert {'aws_ecs_service.fixed["splitter"]', 'aws_ecs_service.fixed["aggregator"]'} <= small
    left = ends({address: ended[address] for address in ended.keys() - small})
    state_machine = {
        "aws_sfn_state_machine.run",
        "aws_iam_role.state_machine",
        "aws_iam_role_policy.state_machine",
    }
    told = {"aws_sns_topic_subscription.email"}
    autoscaling = AUTOSCALING | {"aws_appautoscaling_target.service"} if scaling == "scaler" else set()
    assert left == TASKS | WATCH | state_machine | told | autoscaling | {"aws_ecr_lifecycle_policy.image"}
    assert updated(changes, 'module.fleet[0].aws_ecs_service.service["worker"]')


def test_a_secret_of_the_same_configuration_is_plannable(applied, tmp_path):
    """An isolated network and a secret whose ARN is known only after the apply."""
    made = new_deployment(tmp_path / "root", applied["alarms"].at, {**BASE, "network": "isolated"})
    secret = {"agent": {"name": "agent"}}
    token = "${aws_secretsmanager_secret.agent.arn}"
    changes = made.changed(
        tmp_path / "changed", {"agent_secrets": {"TOKEN": token}}, aws_secretsmanager_secret=secret
    ).plan()
    assert 'module.network[0].aws_vpc_endpoint.interface["secretsmanager"]' in changes


@pytest.mark.parametrize("wrong", WRONG, ids=["+".join(list(wrong)[:2]) for wrong in WRONG])
def test_wrong_variables_fail_in_the_plan(applied, tmp_path, wrong):
    """The plan ends with a sentence for each, which names the variable and what it has to be."""
    variables = {name: value for name, (value, _) in wrong.items()}
    with pytest.raises(AssertionError) as failed:
        applied["scaler"].changed(tmp_path / "wrong", variables).plan()
    said = " ".join(re.sub(r"[│╷╵]", " ", str(failed.value)).split())
    assert [sentence for _, sentence in wrong.values() if sentence not in said] == [], said
    assert len(re.findall("Invalid value for variable|Resource precondition failed", said)) >= len(wrong)


def test_a_root_that_wants_provider_6_finds_it(applied, tmp_path):
    """A root module with a constraint of version 6 selects it: nothing in the modules holds it back.

    The mirror's only provider is a stub of version 6: the constraints alone decide what `init` selects.
    """
    known = json.loads(applied["scaler"].terraform.run("version", "-json"))
    source = next(name for name in known["provider_selections"] if name.endswith("/aws"))
    stub = tmp_path / "mirror" / source / "6.20.0" / known["platform"] / "terraform-provider-aws_v6.20.0_x5"
    stub.parent.mkdir(parents=True)
    stub.write_text("#!/bin/sh\nexit 1\n", "utf-8")
    stub.chmod(0o755)
    root = tmp_path / "root"
    root.mkdir()
    copy_of_module(root / "module")
    wanted = {"aws": {"source": "hashicorp/aws", "version": ">= 6.0"}}
    text = {"terraform": {"required_providers": wanted}, "module": {"rowfleet": {"source": "./module"}}}
    (root / "main.tf.json").write_text(json.dumps(text), "utf-8")
    terraform = Terraform(root)
    terraform.run("init", "-input=false", "-no-color", f"-plugin-dir={tmp_path / 'mirror'}")
    assert json.loads(terraform.run("version", "-json"))["provider_selections"] == {source: "6.20.0"}
