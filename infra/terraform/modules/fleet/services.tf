# The services: workers, and one small service for the other roles, unless they have services of their own.

locals {
  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size
  fargate_memory = {
    "256"  = [512, 1024, 2048]
    "512"  = range(1024, 4097, 1024)
    "1024" = range(2048, 8193, 1024)
    "2048" = range(4096, 16385, 1024)
    "4096" = range(8192, 30721, 1024)
  }

  control_roles = concat(
    var.splitter == null ? ["splitter"] : [],
    var.aggregator == null ? ["aggregator", "sweeper"] : [],
  )

  # What each service is, whether it runs already or not; the keys are known at plan.
  planned = merge(
    {
      worker = {
        roles     = ["worker"]
        size      = var.worker
        minimum   = var.worker.min_tasks
        maximum   = var.worker.max_tasks
        spot      = var.worker.spot_percent
        on_demand = var.worker.on_demand_base
      }
    },
    {
      for name, service in {
        control    = length(local.control_roles) == 0 ? null : { roles = local.control_roles, size = var.control }
        splitter   = var.splitter == null ? null : { roles = ["splitter"], size = var.splitter }
        aggregator = var.aggregator == null ? null : { roles = ["aggregator", "sweeper"], size = var.aggregator }
        } : name => {
        roles     = service.roles
        size      = service.size
        minimum   = var.scaling == "alarms" ? service.size.tasks : name == "control" ? coalesce(var.control.min_tasks, 0) : 0
        maximum   = service.size.tasks
        spot      = 0 # one of them alone holds all runs
        on_demand = 0
      } if service != null
    },
  )
  services = var.image == null ? {} : local.planned

  # The dimension `role` of a service's metrics: its roles, sorted.
  metric_roles = { for name, service in local.planned : name => join("+", sort(service.roles)) }

  drain_timeout = "75m"

  # In a cluster with other services the prefix keeps two deployments apart.
  service_names = { for name in keys(local.planned) : name => local.own_cluster ? name : "${var.prefix}-${name}" }
  service_arns  = { for name in keys(local.planned) : name => "arn:${local.partition}:ecs:${local.region}:${local.account_id}:service/${local.cluster_name}/${local.service_names[name]}" }
}

resource "aws_ecs_service" "service" {
  # checkov:skip=CKV_AWS_333: a public address is how network = public reaches AWS and agents; no group lets anything in
  for_each = local.services

  name                               = local.service_names[each.key]
  cluster                            = local.cluster_arn
  task_definition                    = aws_ecs_task_definition.service[each.key].arn
  desired_count                      = each.value.minimum
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  availability_zone_rebalancing      = "ENABLED"
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"
  wait_for_steady_state              = var.wait_for_steady_state
  tags                               = local.tags

  # With it a new share of Spot is an update; without it the provider makes the service anew.
  force_new_deployment = true

  dynamic "capacity_provider_strategy" {
    for_each = {
      for provider, part in {
        FARGATE      = { weight = 100 - each.value.spot, base = each.value.on_demand }
        FARGATE_SPOT = { weight = each.value.spot, base = 0 }
      } : provider => part if part.weight + part.base > 0
    }

    content {
      capacity_provider = capacity_provider_strategy.key
      weight            = capacity_provider_strategy.value.weight
      base              = capacity_provider_strategy.value.base
    }
  }

  # ECS goes back to the last version that ran if tasks of a new one do not start. It needs tasks for that: a service
  # of 0 tasks takes a new version at once, and a fault shows when the first task starts.
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.network.subnet_ids
    security_groups  = var.network.security_group_ids
    assign_public_ip = var.network.assign_public_ip
  }

  # A busy task keeps its protection for up to an hour, and drains after it; the provider waits for 20 minutes.
  timeouts {
    create = local.drain_timeout
    update = local.drain_timeout
    delete = local.drain_timeout
  }

  lifecycle {
    ignore_changes = [desired_count] # the scaler's, or Application Auto Scaling's
  }

  depends_on = [
    aws_ecs_cluster_capacity_providers.main,
    aws_iam_role_policy.task, # a task that starts before its permissions exist would not be ready
    aws_iam_role_policy.execution,
    aws_iam_role_policy_attachment.managed,
  ]
}
