"""The Fleet port on ECS: the services of one cluster."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from botocore.exceptions import ClientError

from service.adapters.aws.errors import AwsCall, error_code, perform
from service.domain.errors import ConfigError
from service.domain.ports import TaskCounts

MAX_SERVICES = 10
"""Services in one DescribeServices (ECS quota)."""

_MISSING = frozenset({"ClusterNotFoundException", "ServiceNotActiveException", "ServiceNotFoundException"})
_HINT = "check ROWFLEET_SCALER__CLUSTER, ROWFLEET_SCALER__SERVICES and the region"


class EcsFleet:
    """The services of `cluster`, a name or an ARN. `client` is that of ECS."""

    def __init__(self, client: Any, cluster: str, timeout_s: float, endpoint: str = "") -> None:
        self._ecs = client
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._endpoint = endpoint

    async def counts(self, services: Collection[str]) -> Mapping[str, TaskCounts]:
        """The tasks of each service. Raises ConfigError if one does not exist or is being deleted."""
        call = self._call("ecs:DescribeServices", f"cluster {self._cluster}")
        request = self._ecs.describe_services(cluster=self._cluster, services=list(services))
        try:
            response = await perform(call, request)
        except ClientError as error:
            raise self._missing(error_code(error)) from error
        found = {service["serviceName"]: service for service in response["services"]}
        for name in services:
            # a service that was deleted is listed for a while, as INACTIVE
            if found.get(name, {}).get("status") != "ACTIVE":
                raise self._missing(f"service {name} does not exist or is being deleted")
        return {name: _counts(found[name]) for name in services}

    async def set_desired(self, service: str, tasks: int) -> None:
        """Let a service have so many tasks. Raises ConfigError if it does not exist."""
        call = self._call("ecs:UpdateService", f"service {self._cluster}/{service}")
        request = self._ecs.update_service(cluster=self._cluster, service=service, desiredCount=tasks)
        try:
            await perform(call, request)
        except ClientError as error:
            raise self._missing(f"service {service}: {error_code(error)}") from error

    def _call(self, permission: str, resource: str) -> AwsCall:
        return AwsCall(permission, resource, self._timeout_s, expects=_MISSING, endpoint=self._endpoint)

    def _missing(self, why: str) -> ConfigError:
        return ConfigError(f"cluster {self._cluster}: {why}: {_HINT}")


def _counts(service: Mapping[str, Any]) -> TaskCounts:
    return TaskCounts(
        desired=int(service["desiredCount"]),
        running=int(service["runningCount"]),
        pending=int(service["pendingCount"]),
    )
