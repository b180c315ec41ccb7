# The task definitions: one image for all, and the command names the roles.

resource "aws_ecs_task_definition" "service" {
  for_each = local.services

  family                   = "${var.prefix}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.size.cpu
  memory                   = each.value.size.memory
  execution_role_arn       = local.execution_role_arn
  task_role_arn            = local.task_role_arns[each.key]
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.architecture
  }

  volume {
    name = "tmp" # on the task's own disk; the only writable path
  }

  container_definitions = jsonencode([merge(
    {
      name                   = each.key
      image                  = var.image
      essential              = true
      command                = ["serve", "--roles", join(",", each.value.roles)]
      readonlyRootFilesystem = true
      stopTimeout            = var.stop_timeout_s
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
      environment            = [for name, value in local.environment[each.key] : { name = name, value = value }]
      secrets                = each.key == "worker" ? [for name, arn in var.agent_secrets : { name = name, valueFrom = arn }] : []
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
        options = merge(
          {
            awslogs-group         = local.log_group
            awslogs-region        = local.region
            awslogs-stream-prefix = "task"
            mode                  = var.logs.mode
          },
          var.logs.mode == "blocking" ? {} : { max-buffer-size = var.logs.buffer },
        )
      }
    },
    var.repository.credentials_secret_arn == null ? {} : {
      repositoryCredentials = { credentialsParameter = var.repository.credentials_secret_arn }
    },
  )])
  lifecycle {
    # Whoever names a repository has said where the image lies; its ARN may not be known yet.
    precondition {
      condition = (
        local.image_repository == null || local.image_repository == local.own_repository ||
        length(var.image_repository_arns) + length(var.repository.pull_through_cache_arns) > 0 || (!var.repository.create && var.repository.arn != null)
      )
      error_message = "image lies in a repository of ECR that tasks may not pull from: push it to ${coalesce(local.own_repository, "the repository of this deployment")}, or name its repository in image_repository_arns or in repository.arn."
    }
  }
}
