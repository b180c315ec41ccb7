"""Changes of a deployment's variables with what each of them ends, and wrong values of variables."""

from __future__ import annotations

from typing import Any

from tests.infra.deployment import CONFIG, IMAGE, IMAGE_REPOSITORY

ACCOUNT = "us-east-1:000000000000"
SECRET = f"arn:aws:secretsmanager:{ACCOUNT}:secret:token-AbCdEf"
KEY = f"arn:aws:kms:{ACCOUNT}:key/0f1e2d3c"
FUNCTION = f"arn:aws:lambda:{ACCOUNT}:function:agent"
MODEL = "arn:aws:bedrock:us-east-1::foundation-model/model"
EXISTING = {"vpc_id": "vpc-0abc", "subnet_ids": ["subnet-0abc", "subnet-0def"]}

BASE: dict[str, Any] = {
    "image": IMAGE,
    "image_repository_arns": [IMAGE_REPOSITORY],
    "mappings_dir": f"{CONFIG}/mappings",
    "schemas_dir": f"{CONFIG}/schemas",
    "agent_secrets": {"TOKEN": SECRET},
}

DATA = {
    "aws_dynamodb_table.results",
    "aws_s3_bucket.data",
    "aws_sqs_queue.main",
    "aws_sqs_queue.dead_letters",
}

# -- what ends together ----------------------------------------------------------------------------------

# A task definition is never changed; services go on to the new one, task by task.
TASKS = {"aws_ecs_task_definition.service"}
ROLES = {"aws_iam_role.task", "aws_iam_role_policy.task"}
AUTOSCALING = {
    "aws_appautoscaling_policy.sleep",
    "aws_appautoscaling_policy.track",
    "aws_appautoscaling_policy.wake",
    "aws_cloudwatch_metric_alarm.scaling",
}
SCALER = {
    "aws_cloudwatch_event_rule.scaler",
    "aws_cloudwatch_event_target.scaler",
    "aws_lambda_function.scaler",
    "aws_lambda_function_event_invoke_config.scaler",
    "aws_lambda_permission.scaler",
}
SCALER_ROLE = {"aws_iam_role.scaler", "aws_iam_role_policy.scaler"}
GROUP = {"aws_security_group.tasks", "aws_vpc_security_group_egress_rule.tasks"}
PUBLIC = {
    "aws_internet_gateway.own",
    "aws_route.internet",
    "aws_route_table.public",
    "aws_route_table_association.public",
    "aws_subnet.public",
}
BUCKET = {
    "aws_s3_bucket.data",
    "aws_s3_bucket_lifecycle_configuration.data",
    "aws_s3_bucket_notification.incoming",
    "aws_s3_bucket_ownership_controls.data",
    "aws_s3_bucket_policy.data",
    "aws_s3_bucket_public_access_block.data",
    "aws_s3_bucket_server_side_encryption_configuration.data",
    "aws_s3_bucket_versioning.data",
    "aws_s3_object.config",
}
CLUSTER = {"aws_ecs_cluster.main", "aws_ecs_cluster_capacity_providers.main"}
WATCH = {"aws_cloudwatch_metric_alarm.watch"}

# -- changes: how the deployment scaled before, the variables, what ends ------------------------------------

CASES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    # how much runs
    "less Spot": ("alarms", {"worker": {"spot_percent": 0}}, set()),
    "all Spot but one": ("scaler", {"worker": {"spot_percent": 100, "on_demand_base": 1}}, set()),
    "a fixed fleet": ("alarms", {"worker": {"min_tasks": 3, "max_tasks": 3}}, AUTOSCALING),
    "a bigger fleet": ("scaler", {"worker": {"max_tasks": 50, "backlog_per_task": 100}}, set()),
    "alarms to scaler": (
        "alarms", {"scaling": "scaler"}, AUTOSCALING | {"aws_appautoscaling_target.service"},
    ),
    "scaler to alarms": (
        "scaler",
        {"scaling": "alarms"},
        SCALER | WATCH | {"aws_ecr_repository_policy.image"} | SCALER_ROLE,
    ),
    "a splitter of its own": ("scaler", {"splitter": {"tasks": 2}}, TASKS),
    "both of their own": (
        "scaler", {"splitter": {}, "aggregator": {}}, TASKS | ROLES | WATCH | {"aws_ecs_service.service"},
    ),
    # what runs
    "another image": ("scaler", {"image": IMAGE.replace("0.5.0", "0.6.0")}, TASKS),
    "another architecture": ("scaler", {"architecture": "X86_64"}, TASKS),
    "a proxy": (
        "scaler",
        {"proxy": {"url": "http://proxy.internal:3128", "no_proxy": [".internal"]}, "agent_ports": [3128]},
        TASKS,
    ),
    "blocking logs": ("scaler", {"logs": {"mode": "blocking"}, "wait_for_steady_state": True}, TASKS),
    "no schemas": ("scaler", {"schemas_dir": None}, {"aws_s3_object.config"}),
    "a registry elsewhere": (
        "alarms",
        {
            "image": "registry.example/rowfleet:0.5.0",
            "repository": {
                "create": False,
                "credentials_secret_arn": f"arn:aws:secretsmanager:{ACCOUNT}:secret:registry-AbCdEf",
            },
        },
        TASKS | {"aws_ecr_lifecycle_policy.image", "aws_ecr_repository.image"},
    ),
    # where it runs
    "an existing VPC": (
        "alarms",
        {"network": "existing", "existing_vpc": EXISTING},
        GROUP | PUBLIC | {"aws_default_security_group.own", "aws_vpc.own", "aws_vpc_endpoint.gateway"},
    ),
    "behind NAT": ("scaler", {"network": "nat"}, set()),
    "isolated": ("scaler", {"network": "isolated"}, PUBLIC),
    "own security groups": ("scaler", {"security_group_ids": ["sg-0abc"]}, GROUP),
    "narrow egress": (
        "scaler",
        {"egress": {"cidr_blocks": ["10.0.0.0/8"], "prefix_list_ids": ["pl-0abc"], "dns": False}},
        {"aws_vpc_security_group_egress_rule.tasks"},
    ),
    "other zones": (
        "scaler",
        {"availability_zones": ["us-east-1a", "us-east-1c"]},
        {"aws_route_table_association.public", "aws_subnet.public"},
    ),
    "an existing cluster": (
        "scaler",
        {"cluster_arn": f"arn:aws:ecs:{ACCOUNT}:cluster/team"},
        CLUSTER | {"aws_ecs_service.service"} | WATCH,
    ),
    # who may do it
    "a permissions boundary": (
        "scaler", {"iam": {"permissions_boundary_arn": "arn:aws:iam::000000000000:policy/bound"}}, set(),
    ),
    "another path of roles": (
        "scaler",
        {"iam": {"path": "/team/"}},
        TASKS | ROLES | SCALER_ROLE | {"aws_iam_role.execution", "aws_iam_role_policy.execution"},
    ),
    "statements": (
        "scaler",
        {
            "agent_policy_statements": [{"actions": ["lambda:InvokeFunction"], "resources": [FUNCTION]}],
            "policy_statements": {"splitter": [{"actions": ["kms:Decrypt"], "resources": [KEY]}]},
            "mapping_policy_statements": {
                "slow-agent": [{"actions": ["bedrock:InvokeModel"], "resources": [MODEL]}]
            },
            "repository": {"keep_images": 50},
        },
        {"aws_ecr_lifecycle_policy.image"},
    ),
    "own roles": (
        "scaler",
        {
            "iam": {
                "task_role_arns": {"worker": "arn:aws:iam::000000000000:role/worker"},
                "execution_role_arn": "arn:aws:iam::000000000000:role/execution",
                "managed_policy_arns": {"control": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]},
            }
        },
        TASKS | ROLES | {"aws_iam_role.execution", "aws_iam_role_policy.execution"},
    ),
    "keys": (
        "scaler",
        {
            "kms_key_arn": KEY,
            "secret_kms_key_arns": [KEY],
            "source_kms_key_arns": [KEY],
            "source_bucket_arns": ["arn:aws:s3:::other"],
        },
        set(),
    ),
    # what is there already
    "an existing bucket": ("scaler", {"existing_bucket": "team-bucket"}, TASKS | BUCKET),
    "an existing topic and log group": (
        "scaler",
        {"topic_arn": f"arn:aws:sns:{ACCOUNT}:team", "log_group_name": "/team"},
        TASKS | {"aws_cloudwatch_log_group.service", "aws_sns_topic.alarms", "aws_sns_topic_policy.alarms"},
    ),
    "throughput": (
        "scaler", {"table_throughput": {"max_read_units": 4000, "max_write_units": 2000}}, set(),
    ),
    "twelve tags": ("scaler", {"tags": {f"tag{number}": "value" for number in range(12)}}, set()),
}  # fmt: skip

WRONG: list[dict[str, tuple[Any, str]]] = [
    {"parts": (["fleets"], "parts has to be some of")},
    {"interface_endpoints": (["lambda"], "interface_endpoints belong to network = isolated")},
    {"prefix": ("Rowfleet", "prefix has to be 3 to 20 characters")},
    {
        "architecture": ("arm64", "architecture has to be X86_64 or ARM64"),
        "control": ({"cpu": 256, "memory": 4096}, "Fargate has no task of this cpu and memory"),
        "worker": ({"min_tasks": 5, "max_tasks": 4}, "min_tasks <= max_tasks"),
        "settings": ({"WORKER__MAX_INFLIGHT": "200"}, "rowfleet settings"),
        "agent_secrets": ({"TOKEN": "the-secret-itself"}, "not the secret itself"),
        "network": ("private", "network has to be public, nat, isolated or existing"),
        "availability_zones": (["use1-az1", "use1-az2"], "not ids such as use1-az1"),
        "cluster_arn": ("team", "cluster_arn"),
        "iam": ({"path": "team"}, "iam.path has to begin and end with a slash"),
        "existing_bucket": ("arn:aws:s3:::team", "not an ARN"),
        "max_message_bytes": (2_000_000, "max_message_bytes has to be"),
        "kms_key_arn": ("alias/mine", "kms_key_arn has to be the ARN of a key"),
        "topic_arn": ("alarms", "topic_arn has to be the ARN of a standard SNS topic"),
        "stop_timeout_s": (300, "stop_timeout_s has to be from 30 to 120"),
    },
    {
        "image": ("registry.example/rowfleet:0.1.0", "push the image to the repository of this module"),
        "worker": ({"spot_percent": 101}, "spot_percent has to be"),
        "settings": ({"BUCKET": "other"}, "BUCKET"),
        "egress": ({"cidr_blocks": ["10.0.0.0"]}, "egress.cidr_blocks have to be IPv4 ranges"),
        "proxy": ({"url": "proxy.internal"}, "proxy.url has to be"),
        "max_receives": (1, "max_receives has to be"),
        "alarm_email": ("nobody", "alarm_email has to be an e-mail address"),
    },
    {
        "image": ("rowfleet:latest", "image must not be :latest"),
        "network": ("existing", "existing_vpc belongs to network = existing"),
        "security_group_ids": (["default"], "security_group_ids have to be ids of security groups"),
        "ttl_days": (0, "ttl_days has to be"),
    },
    {"scaling": ("lambda", "scaling has to be")},
    {"image_repository_arns": ([], "repository of ECR that tasks may not pull from")},
]
"""Wrong values by variable, in the sets that one plan refuses together, and what it says of each.

A validation that looks at another variable is left out while that one is wrong.
"""
