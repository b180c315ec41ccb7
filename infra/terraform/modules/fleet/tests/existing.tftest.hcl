# A team's own cluster, registry, log group and roles in the place of the module's.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/rowfleet:0.1.0"
  data = {
    bucket     = "rowfleet-bucket"
    bucket_arn = "arn:aws:s3:::rowfleet-bucket"
    table      = "rowfleet-results"
    table_arn  = "arn:aws:dynamodb:eu-central-1:123456789012:table/rowfleet-results"
    queue_arns = {
      ingest        = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-ingest"
      rows          = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-rows"
      aggregate     = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-aggregate"
      ingest-dlq    = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-ingest-dlq"
      rows-dlq      = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-rows-dlq"
      aggregate-dlq = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-aggregate-dlq"
    }
    queue_urls = {
      ingest        = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-ingest"
      rows          = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-rows"
      aggregate     = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-aggregate"
      ingest-dlq    = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-ingest-dlq"
      rows-dlq      = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-rows-dlq"
      aggregate-dlq = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-aggregate-dlq"
    }
    config_url                = "s3://rowfleet-bucket/config"
    rows_visibility_timeout_s = 630
    max_message_bytes         = 262144
    max_receives              = 5
    ttl_days                  = 7
  }
  network = { subnet_ids = ["subnet-0abc", "subnet-0def"], security_group_ids = ["sg-0abc"], assign_public_ip = true }
}

run "everything_exists" {
  variables {
    image          = "registry.example/rowfleet:0.1.0"
    scaling        = "alarms"
    cluster_arn    = "arn:aws:ecs:eu-central-1:123456789012:cluster/shared"
    log_group_name = "/teams/data"
    repository     = { create = false, credentials_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:registry-AbCdEf" }
    iam = {
      execution_role_arn = "arn:aws:iam::123456789012:role/teams/execution"
      task_role_arns     = { worker = "arn:aws:iam::123456789012:role/teams/worker", control = "arn:aws:iam::123456789012:role/teams/control" }
    }
  }

  assert {
    condition     = length(aws_ecs_cluster.main) + length(aws_ecs_cluster_capacity_providers.main) + length(aws_cloudwatch_log_group.service) + length(aws_ecr_repository.image) + length(aws_iam_role.task) + length(aws_iam_role.execution) + length(aws_iam_role.scaler) + length(aws_iam_role_policy.task) == 0
    error_message = "something is made that exists"
  }

  assert {
    condition     = aws_ecs_service.service["worker"].cluster == var.cluster_arn && aws_ecs_service.service["worker"].name == "rowfleet-worker" && output.services["rowfleet-worker"].service == "worker"
    error_message = "the services are not in the cluster, or under a name that another deployment has too"
  }

  assert {
    condition     = aws_ecs_task_definition.service["worker"].task_role_arn == var.iam.task_role_arns.worker && aws_ecs_task_definition.service["worker"].execution_role_arn == var.iam.execution_role_arn && jsonencode(output.task_role_arns) == jsonencode(var.iam.task_role_arns)
    error_message = "the tasks have other roles than those that are given"
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.service["worker"].container_definitions)).logConfiguration.options.awslogs-group == "/teams/data" && output.log_group_arn == "arn:aws:logs:eu-central-1:123456789012:log-group:/teams/data"
    error_message = "the logs go elsewhere"
  }

  assert {
    condition     = one(jsondecode(aws_ecs_task_definition.service["worker"].container_definitions)).repositoryCredentials.credentialsParameter == var.repository.credentials_secret_arn && contains(local.execution_statements.ReadSecrets.resources, var.repository.credentials_secret_arn)
    error_message = "ECS cannot log in to the registry"
  }

  assert {
    condition     = local.statements_of_all.StayAlive.resources == ["arn:aws:ecs:eu-central-1:123456789012:task/shared/*"] && local.worker_ecs == { ClusterName = "shared", ServiceName = "rowfleet-worker" }
    error_message = "protection or metrics are of another cluster"
  }

  assert {
    condition     = output.repository_url == null && output.repository_arn == null && !contains(keys(local.execution_statements), "PullImage")
    error_message = "a repository is named that there is not"
  }
}

run "roles_of_an_organisation" {
  variables {
    state_machine = true
    repository    = { create = false, arn = "arn:aws:ecr:eu-central-1:123456789012:repository/team/rowfleet", pull_through_cache_arns = ["arn:aws:ecr:eu-central-1:123456789012:repository/docker-hub/*"] }
    iam = {
      path                     = "/teams/data/"
      permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
      managed_policy_arns      = { worker = ["arn:aws:iam::123456789012:policy/a", "arn:aws:iam::123456789012:policy/b"], execution = ["arn:aws:iam::123456789012:policy/c"], scaler = ["arn:aws:iam::123456789012:policy/d"], splitter = ["arn:aws:iam::123456789012:policy/e"] }
    }
  }

  assert {
    condition     = alltrue([for role in concat(values(aws_iam_role.task), aws_iam_role.execution, aws_iam_role.scaler, aws_iam_role.state_machine) : role.path == "/teams/data/" && role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"])
    error_message = "a role is made that the organisation forbids"
  }

  assert {
    condition     = toset(keys(aws_iam_role_policy_attachment.managed)) == toset(["worker-0", "worker-1", "execution-0", "scaler-0"])
    error_message = "policies are not attached to the roles that there are"
  }

  assert {
    condition     = local.execution_statements.FillCache.resources == tolist(["arn:aws:ecr:eu-central-1:123456789012:repository/docker-hub/*"]) && contains(local.execution_statements.PullImage.resources, var.repository.arn)
    error_message = "ECS cannot pull from the repositories that are given"
  }
}

# Everything that the caller makes in the same configuration is unknown at plan.
run "nothing_has_to_be_known_at_plan" {
  command = plan

  module {
    source = "./tests/unknown"
  }

  assert {
    condition     = output.endpoint_services == toset(["sqs", "ecr.api", "ecr.dkr", "logs", "ecs", "sns"]) && output.services == toset(["rowfleet-worker", "rowfleet-control"])
    error_message = "the endpoints or the names of services are not known at plan"
  }
}
