"""The module and the service agree on names and numbers; the apply test compares with `setup`."""

import json
import re

import pytest

from service.adapters.aws.provision.bucket import _RULE
from service.adapters.aws.provision.incoming import _NOTIFICATION
from service.adapters.aws.provision.queues import (
    _DAY_S,
    _DLQ_RETENTION_S,
    _POLL_WAIT_S,
    _RETENTION_S,
)
from service.adapters.aws.provision.resources import QUEUES
from service.adapters.aws.table.queries import BY_STATUS, BY_TIMESTAMP
from service.app.serve import ROLES
from service.app.settings import Settings, describe
from service.domain.errors import FailureClass
from service.domain.model import EventKind
from service.runtime.metrics import NAMESPACE
from tests.infra.terraform import MODULE, ROOT

SERVICE = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "service").rglob("*.py")))


def text(name: str) -> str:
    """The text of a file of the module, with single spaces."""
    return re.sub(" +", " ", (MODULE / name).read_text("utf-8"))


FLEET = "modules/fleet/"


def names_in(list_name: str) -> set[str]:
    """The names in one of the fleet's two lists of settings."""
    found = re.search(rf"{list_name} = \[(.*?)\]", text(f"{FLEET}settings.tf"), re.DOTALL)
    assert found is not None
    return set(re.findall(r'"([A-Z_]+)"', found[1]))


def test_every_setting_exists():
    """The settings that the command reads are settings of the service, with the same spelling."""
    known = {line.name for line in describe(Settings())}
    named = set(re.findall(r"\bROWFLEET_[A-Z_]+\b", text("modules/data/outputs.tf")))
    assert named
    assert named <= known


def test_the_fleet_knows_the_settings():
    """`settings` takes exactly the settings of the service that the fleet does not set itself."""
    known = {line.name.removeprefix("ROWFLEET_") for line in describe(Settings())}
    managed, others = names_in("managed_settings"), names_in("known_settings")
    assert managed | others == known
    assert managed & others == set()


def test_the_fleet_refuses_the_settings_that_it_sets():
    """The settings of tasks and scaler, except the proxy, are those that `settings` refuses."""
    files = [f"{FLEET}environment.tf", f"{FLEET}scaler.tf"]
    named = set(re.findall(r"\bROWFLEET_([A-Z_]+)\b", "".join(map(text, files))))
    assert names_in("managed_settings") == named - {"HTTP__PROXY"}


READS_OF_SETUP = {
    "s3.head_bucket": "s3:ListBucket",
    "s3.get_bucket_lifecycle_configuration": "s3:GetLifecycleConfiguration",
    "s3.get_bucket_notification_configuration": "s3:GetBucketNotification",
    "sqs.get_queue_attributes": "sqs:GetQueueAttributes",
    "dynamodb.describe_table": "dynamodb:DescribeTable",
    "dynamodb.describe_time_to_live": "dynamodb:DescribeTimeToLive",
}
"""The reading calls of `rowfleet setup`, each with its permission."""


def test_operators_may_check_the_setup():
    """The policy for operators has the permission of each call by which `setup --check` reads."""
    provision = ROOT / "service/adapters/aws/provision"
    code = "\n".join(path.read_text("utf-8") for path in sorted(provision.glob("*.py")))
    assert set(re.findall(r"clients\.(\w+\.(?:get|describe|head|list)_\w+)", code)) == set(READS_OF_SETUP)
    policies = text(f"{FLEET}policies.tf")
    rule = (provision / "event_rule.py").read_text("utf-8")
    calls = set(re.findall(r'(?:"events:|_call\(")(\w+)"', rule))
    assert calls == {"ListRuleNamesByTarget", "DescribeRule", "ListTargetsByRule", "TestEventPattern"}
    assert [call for call in sorted(calls) if f'"events:{call}"' not in policies] == []
    assert [action for action in READS_OF_SETUP.values() if f'"{action}"' not in policies] == []


def test_the_fleet_plays_every_role_once():
    """Each role is of control, or of the service that is taken out of it."""
    body = text(f"{FLEET}services.tf")
    control = re.search(r"control_roles = concat\((.*?)\n \)", body, re.DOTALL)
    assert control is not None
    taken = {
        name: json.loads(roles)
        for name, roles in re.findall(r"var\.(\w+) == null \? (\[.*?\]) :", control[1])
    }
    own = dict(re.findall(r"(\w+) = var\.\w+ == null \? null : \{ roles = (\[.*?\])", body))
    assert taken == {name: json.loads(roles) for name, roles in own.items()}
    assert sorted(["worker", *(role for roles in taken.values() for role in roles)]) == sorted(ROLES)


def test_roles_are_those_of_the_service():
    """Alarms and dashboard know all roles, and name them as the dimension of the metrics does."""
    body = text("modules/observability/variables.tf")
    roles = re.search(r"setsubtract\(service.roles, (\[.*?\])\)", body)
    assert roles is not None
    assert set(json.loads(roles[1])) == set(ROLES)
    assert 'service.metric_role == join("+", sort(service.roles))' in body
    assert '"role": "+".join(sorted(roles))' in SERVICE


METRICS = re.compile(
    r'metric = "(\w+)"|"rowfleet", "(\w+)", "service"|namespace = "rowfleet", name = "(\w+)"'
    r"|^ (\w+) = local\.(?:all_metric_roles|metric_roles\.\w+)$",
    re.MULTILINE,
)
"""The names of metrics of the service in a file with single spaces."""

WATCHING = [
    name
    for name in sorted(str(path.relative_to(MODULE)) for path in MODULE.rglob("*.tf"))
    if ".terraform" not in name and METRICS.search(text(name))
]


def is_written(metric: str) -> bool:
    """True if the service writes the metric. Those of agents' failures are named by the class of failure."""
    failure_class = metric.removeprefix("agent_failures_")
    if failure_class != metric:
        is_counted = '.count(f"agent_failures_{error.failure_class}")' in SERVICE
        return is_counted and failure_class in list(FailureClass)
    return re.search(rf'\.(count|observe)\("{metric}"', SERVICE) is not None


@pytest.mark.parametrize("file", WATCHING)
def test_metrics_are_written_by_the_service(file):
    """Alarms, dashboard and scaling use metrics that exist, in the service's namespace."""
    body = text(file)
    names = {name for found in METRICS.findall(body) for name in found if name}
    assert sorted(name for name in names if not is_written(name)) == []
    assert set(re.findall(r'namespace = "([a-z]\w*)"', body)) <= {NAMESPACE, "ecs"}


def test_alarms_and_dashboard_watch_metrics():
    """The files whose metrics are compared are found, with the metrics that operators are told to watch."""
    watched = {name for file in WATCHING for found in METRICS.findall(text(file)) for name in found if name}
    assert "modules/observability/dashboard.tf" in WATCHING
    assert "modules/observability/alarms.tf" in WATCHING
    assert {"dead_messages_left", "sweeps", "retries_throttled", "agent_failures_unavailable"} <= watched


def test_queues_are_those_of_setup():
    """Names, retention and long polls equal those of `rowfleet setup`."""
    body = text("modules/data/queues.tf")
    assert f"queues = toset({json.dumps(list(QUEUES))})" in body
    assert f"day_s = {_DAY_S}" in body
    kept = [
        int(days) * _DAY_S for days in re.findall(r"message_retention_seconds = (\d+) \* local.day_s", body)
    ]
    assert sorted(kept) == sorted([_RETENTION_S, _DLQ_RETENTION_S])
    assert f"receive_wait_time_seconds = {_POLL_WAIT_S}" in body


def test_bucket_is_that_of_setup():
    """The notification and the expiry of work/ have the names by which `rowfleet setup` finds them."""
    body, rules = text("modules/data/incoming.tf"), text("modules/data/storage.tf")
    assert f'id = "{_NOTIFICATION}"' in body
    assert "filter_suffix = " not in body
    assert f'filter_prefix = "{Settings().incoming_prefix}"' in body
    assert f"{_RULE} = {{ prefix = " in rules
    assert f'id = "{_RULE}-uploads"' in rules


def test_indexes_are_those_that_are_read():
    """The table has exactly the service's indexes. The sweeper may query the one that it reads."""
    names = re.findall(r'global_secondary_index \{\s+name = "(\w+)"', text("modules/data/table.tf"))
    assert sorted(names) == sorted([BY_STATUS, BY_TIMESTAMP])
    assert f"/index/{BY_STATUS}" in text(f"{FLEET}permissions.tf")
    assert f"/index/{BY_TIMESTAMP}" in text(f"{FLEET}policies.tf")


def test_the_state_machine_is_that_of_the_examples():
    """The module deploys the example; one of the two is not changed alone."""
    name = "state-machine.asl.json"
    assert (MODULE / FLEET / name).read_text("utf-8") == (
        ROOT / "examples" / "step-functions" / name
    ).read_text("utf-8")


def test_the_kinds_of_events_are_those_of_the_service():
    """The module refuses exactly the kinds that the service does not know."""
    kinds = re.search(r"setsubtract\(var.events.kinds, (\[.*?\])\)", text(f"{FLEET}variables.tf"))
    assert kinds is not None
    assert json.loads(kinds[1]) == [kind.value for kind in EventKind]
