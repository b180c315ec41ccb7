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
}
