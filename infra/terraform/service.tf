# The cluster, and three services with one image; the command names the roles.

locals {
  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size
  fargate_memory = {
    "256"  = [512, 1024, 2048]
    "512"  = range(1024, 4097, 1024)
    "1024" = range(2048, 8193, 1024)
    "2048" = range(4096, 16385, 1024)
    "4096" = range(8192, 30721, 1024)
  }

  config_url = "s3://${local.bucket_name}/config"

  managed_environment = {
    AWS_REGION                          = local.region
    ROWFLEET_BUCKET                     = local.bucket_name
    ROWFLEET_TABLE                      = aws_dynamodb_table.results.name
    ROWFLEET_PREFIX                     = var.prefix
    ROWFLEET_TTL_DAYS                   = tostring(var.ttl_days)
    ROWFLEET_DRAIN_TIMEOUT_S            = tostring(var.stop_timeout_s - 20)
    ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S = tostring(local.rows_visibility_timeout_s)
    ROWFLEET_SPLIT__MAX_MESSAGE_BYTES   = tostring(local.max_message_bytes)
    ROWFLEET_INGEST__MAX_RECEIVES       = tostring(var.max_receives)
    ROWFLEET_ROWS__MAX_RECEIVES         = tostring(var.max_receives)
    ROWFLEET_RESULTS__MAX_RECEIVES      = tostring(var.max_receives)
    ROWFLEET_HEALTH__HOST               = "127.0.0.1" # the health check runs inside the container
    ROWFLEET_HEALTH__PORT               = "8080"
    ROWFLEET_LOG_FORMAT                 = "json"
  }
  # For all tasks: the splitter notes in a batch who is told, and the sweeper tells them.
  events_environment = {
    for name, value in {
      ROWFLEET_EVENTS__WEBHOOK_URL    = var.events.webhook_url
      ROWFLEET_EVENTS__WEBHOOK_SECRET = local.secret_arn == null ? null : "${local.secret_of}:${local.secret_arn}"
      ROWFLEET_EVENTS__EVENT_BUS      = var.events.event_bus
      ROWFLEET_EVENTS__TOPIC_ARN      = var.events.topic_arn
      ROWFLEET_EVENTS__KINDS          = var.events.kinds == null ? null : join(",", var.events.kinds)
      ROWFLEET_EVENTS__ALLOW_PRIVATE  = var.events.allow_private ? "true" : null
    } : name => value if value != null
  }
  managed_settings = [
    "BUCKET", "TABLE", "PREFIX", "MAPPINGS", "SCHEMAS", "TTL_DAYS", "DRAIN_TIMEOUT_S", "ROWS__VISIBILITY_TIMEOUT_S",
    "SPLIT__MAX_MESSAGE_BYTES", "INGEST__MAX_RECEIVES", "ROWS__MAX_RECEIVES", "RESULTS__MAX_RECEIVES", "HEALTH__HOST",
    "HEALTH__PORT", "LOG_FORMAT", "EVENTS__WEBHOOK_URL", "EVENTS__WEBHOOK_SECRET", "EVENTS__EVENT_BUS",
    "EVENTS__TOPIC_ARN", "EVENTS__KINDS", "EVENTS__ALLOW_PRIVATE",
  ]
  common_environment = merge(
    { for name, value in var.settings : "ROWFLEET_${name}" => value },
    local.managed_environment,
    local.events_environment,
  )

  services = {
    splitter = {
      roles       = "splitter"
      size        = var.splitter
      tasks       = var.splitter.tasks
      environment = { ROWFLEET_MAPPINGS = "${local.config_url}/mappings", ROWFLEET_SCHEMAS = "${local.config_url}/schemas" }
      secrets     = {}
      spot        = 0
    }
    worker = {
      roles       = "worker"
      size        = var.worker
      tasks       = var.worker.min_tasks
      environment = var.agent_environment
      secrets     = var.agent_secrets
      spot        = var.worker.spot_percent
    }
    aggregator = {
      roles       = "aggregator,sweeper"
      size        = var.aggregator
      tasks       = var.aggregator.tasks
      environment = {}
      secrets     = {}
      spot        = 0
    }
  }

  running      = var.image == null ? {} : local.services
  autoscaling  = var.worker.min_tasks < var.worker.max_tasks
  scaled       = { for name, service in local.running : name => service if name == "worker" && local.autoscaling }
  fixed        = { for name, service in local.running : name => service if !contains(keys(local.scaled), name) }
  all_services = merge(aws_ecs_service.fixed, aws_ecs_service.scaled)
}

resource "aws_cloudwatch_log_group" "service" {
  # checkov:skip=CKV_AWS_158: encrypted with CloudWatch's key by default; kms_key_arn switches to a KMS key
  # checkov:skip=CKV_AWS_338: logs hold no payloads; how long they are kept is log_retention_days
  name              = "/rowfleet/${var.prefix}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

resource "aws_ecs_cluster" "main" {
  # checkov:skip=CKV_AWS_65: Container Insights costs by task and metric; rowfleet's own metrics come with its logs
  name = var.prefix
  tags = local.tags

  setting {
    name  = "containerInsights"
    value = "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "main" {
  cluster_name       = aws_ecs_cluster.main.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_ecs_task_definition" "service" {
  for_each = local.running

  family                   = "${var.prefix}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.size.cpu
  memory                   = each.value.size.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task[each.key].arn
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  volume {
    name = "tmp" # on the task's own disk; the only writable path
  }

  container_definitions = jsonencode([{
    name                   = each.key
    image                  = var.image
    essential              = true
    command                = ["serve", "--roles", each.value.roles]
    readonlyRootFilesystem = true
    stopTimeout            = var.stop_timeout_s
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    environment = [
      for name, value in merge(local.common_environment, each.value.environment) : { name = name, value = value }
    ]
    secrets = [for name, arn in each.value.secrets : { name = name, valueFrom = arn }]
    healthCheck = {
      # /livez, not /readyz: restarting does not help a task that AWS refuses
      command     = ["CMD", "rowfleet", "healthcheck"]
      interval    = 30
      timeout     = 10
      retries     = 3
      startPeriod = 60
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.service.name
        awslogs-region        = local.region
        awslogs-stream-prefix = "task"
      }
    }
  }])
}

# Services of a fixed size, which Terraform sets.
resource "aws_ecs_service" "fixed" {
  # checkov:skip=CKV_AWS_333: a public address is how network = public reaches AWS and agents; no group lets anything in
  for_each = local.fixed

  name                               = each.key
  cluster                            = aws_ecs_cluster.main.arn
  task_definition                    = aws_ecs_task_definition.service[each.key].arn
  desired_count                      = each.value.tasks
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  availability_zone_rebalancing      = "ENABLED"
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"
  tags                               = local.tags

  dynamic "capacity_provider_strategy" {
    for_each = { for provider, weight in { FARGATE = 100 - each.value.spot, FARGATE_SPOT = each.value.spot } : provider => weight if weight > 0 }

    content {
      capacity_provider = capacity_provider_strategy.key
      weight            = capacity_provider_strategy.value
    }
  }

  # ECS rolls back a version that does not start.
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = local.task_subnet_ids
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = local.assign_public_ip
  }

  depends_on = [
    aws_ecs_cluster_capacity_providers.main,
    aws_iam_role_policy.task, # a task that starts before its permissions exist would not be ready
    aws_iam_role_policy.execution,
    aws_vpc_endpoint.interface,
    aws_vpc_endpoint.gateway,
    aws_route.internet,
    aws_route.nat,
  ]
}

# The same for workers, except that autoscaling sets their number (scaling.tf).
resource "aws_ecs_service" "scaled" {
  # checkov:skip=CKV_AWS_333: a public address is how network = public reaches AWS and agents; no group lets anything in
  for_each = local.scaled

  name                               = each.key
  cluster                            = aws_ecs_cluster.main.arn
  task_definition                    = aws_ecs_task_definition.service[each.key].arn
  desired_count                      = each.value.tasks
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  availability_zone_rebalancing      = "ENABLED"
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"
  tags                               = local.tags

  dynamic "capacity_provider_strategy" {
    for_each = { for provider, weight in { FARGATE = 100 - each.value.spot, FARGATE_SPOT = each.value.spot } : provider => weight if weight > 0 }

    content {
      capacity_provider = capacity_provider_strategy.key
      weight            = capacity_provider_strategy.value
    }
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = local.task_subnet_ids
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = local.assign_public_ip
  }

  lifecycle {
    ignore_changes = [desired_count]
  }

  depends_on = [
    aws_ecs_cluster_capacity_providers.main,
    aws_iam_role_policy.task,
    aws_iam_role_policy.execution,
    aws_vpc_endpoint.interface,
    aws_vpc_endpoint.gateway,
    aws_route.internet,
    aws_route.nat,
  ]
}
