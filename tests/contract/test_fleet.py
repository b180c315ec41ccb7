"""Contract of the port Fleet, tested in memory and on ECS (ministack, without a container engine)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from service.adapters.aws.clients import AwsOptions, open_client
from service.adapters.aws.ecs import EcsFleet
from service.adapters.memory import MemoryFleet
from service.domain.errors import ConfigError
from service.domain.ports import Fleet, TaskCounts

CONTAINER = {"name": "main", "image": "none", "memory": 64}


@pytest.fixture(params=["memory", "ministack"])
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    """A cluster with the services `worker` and `control`, without tasks."""
    if request.param == "memory":
        yield MemoryFleet({"worker": TaskCounts(0), "control": TaskCounts(0)})
        return
    options: AwsOptions = request.getfixturevalue("aws_options")
    async with open_client(options, "ecs") as ecs:
        cluster = f"c{uuid.uuid4().hex[:12]}"
        await ecs.create_cluster(clusterName=cluster)
        await ecs.register_task_definition(family=cluster, containerDefinitions=[CONTAINER])
        for name in ("worker", "control"):
            await ecs.create_service(
                cluster=cluster, serviceName=name, taskDefinition=cluster, desiredCount=0
            )
        yield EcsFleet(ecs, cluster, 30.0)


async def test_the_desired_tasks_are_those_that_were_set(fleet: Fleet) -> None:
    """Of that service alone; setting them again changes nothing."""
    assert (await fleet.counts(["worker"]))["worker"] == TaskCounts(0)
    for _ in range(2):
        await fleet.set_desired("worker", 3)
        counts = await fleet.counts(["control", "worker"])
        assert {name: each.desired for name, each in counts.items()} == {"control": 0, "worker": 3}
    await fleet.set_desired("worker", 0)
    assert (await fleet.counts(["worker"]))["worker"].desired == 0


async def test_a_service_that_is_missing(fleet: Fleet) -> None:
    """The error names it, and no count of the others is returned."""
    with pytest.raises(ConfigError, match="service none"):
        await fleet.counts(["worker", "none"])
    with pytest.raises(ConfigError, match="service none"):
        await fleet.set_desired("none", 1)


async def test_a_cluster_that_is_missing(aws_options: AwsOptions) -> None:
    """The error names the settings to look at."""
    async with open_client(aws_options, "ecs") as ecs:
        fleet = EcsFleet(ecs, "no-such-cluster", 30.0)
        with pytest.raises(ConfigError, match=r"no-such-cluster: .*ROWFLEET_SCALER__CLUSTER"):
            await fleet.counts(["worker"])


async def test_a_service_that_is_being_deleted(aws_options: AwsOptions) -> None:
    """ECS lists it for a while; it counts as missing."""
    async with open_client(aws_options, "ecs") as ecs:
        cluster = f"c{uuid.uuid4().hex[:12]}"
        await ecs.create_cluster(clusterName=cluster)
        await ecs.register_task_definition(family=cluster, containerDefinitions=[CONTAINER])
        await ecs.create_service(
            cluster=cluster, serviceName="worker", taskDefinition=cluster, desiredCount=0
        )
        await ecs.delete_service(cluster=cluster, service="worker", force=True)
        with pytest.raises(ConfigError, match="service worker does not exist or is being deleted"):
            await EcsFleet(ecs, cluster, 30.0).counts(["worker"])
