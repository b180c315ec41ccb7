# The number of tasks: by the scaler, by alarms, fixed, on Spot.

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

run "the_scaler_sets_all_services" {
  assert {
    condition     = length(aws_appautoscaling_target.service) == 0 && length(aws_cloudwatch_metric_alarm.scaling) == 0
    error_message = "two things set the number of tasks"
  }

  assert {
    condition = jsondecode(aws_lambda_function.scaler[0].environment[0].variables.ROWFLEET_SCALER__SERVICES) == {
      worker  = { minimum = 0, maximum = 10, backlog_per_task = 500, roles = ["worker"] }
      control = { minimum = 0, maximum = 1, roles = ["splitter", "aggregator", "sweeper"] }
    }
    error_message = "the scaler does not know the services"
  }

  assert {
    condition     = aws_lambda_function.scaler[0].environment[0].variables.ROWFLEET_SCALER__CLUSTER == "rowfleet" && aws_lambda_function.scaler[0].environment[0].variables.ROWFLEET_SCALER__IDLE_S == "600" && aws_lambda_function.scaler[0].environment[0].variables.ROWFLEET_TABLE == "rowfleet-results"
    error_message = "the scaler has not the settings of the deployment"
  }

  assert {
    condition     = aws_lambda_function.scaler[0].image_uri == var.image && aws_lambda_function.scaler[0].image_config[0].command == tolist(["scaler"]) && aws_lambda_function.scaler[0].architectures == tolist(["arm64"])
    error_message = "the scaler runs another image than the tasks"
  }

  assert {
    condition     = aws_lambda_function.scaler[0].timeout < 60 && aws_cloudwatch_event_rule.scaler[0].schedule_expression == "rate(1 minute)" && aws_lambda_function_event_invoke_config.scaler[0].maximum_retry_attempts == 0
    error_message = "two decisions overlap"
  }

  assert {
    condition     = aws_lambda_permission.scaler[0].source_arn == aws_cloudwatch_event_rule.scaler[0].arn
    error_message = "others than the schedule may start the scaler"
  }

  assert {
    condition     = alltrue([for service in aws_ecs_service.service : service.desired_count == 0])
    error_message = "something runs before there is work"
  }

  assert {
    condition     = { for name, service in output.services : name => service.metric_role } == { worker = "worker", control = "aggregator+splitter+sweeper" } && output.scaler_function == "rowfleet-scaler"
    error_message = "the outputs do not name the services"
  }

  assert {
    condition     = length(aws_ecr_repository_policy.image) == 1 && length(aws_iam_role.scaler) == 1
    error_message = "Lambda may not pull the image"
  }
}

run "a_fixed_fleet_keeps_its_number" {
  variables {
    worker  = { min_tasks = 3, max_tasks = 3, spot_percent = 100, on_demand_base = 1 }
    control = { tasks = 2, min_tasks = 1 }
  }

  assert {
    condition     = { for name, service in jsondecode(aws_lambda_function.scaler[0].environment[0].variables.ROWFLEET_SCALER__SERVICES) : name => [service.minimum, service.maximum] } == { worker = [3, 3], control = [1, 2] }
    error_message = "the scaler changes a fixed fleet"
  }

  assert {
    condition     = { for strategy in aws_ecs_service.service["worker"].capacity_provider_strategy : strategy.capacity_provider => [strategy.base, strategy.weight] } == { FARGATE = [1, 0], FARGATE_SPOT = [0, 100] }
    error_message = "on_demand_base is not kept on demand"
  }
}

run "alarms_scale_workers_from_zero_to_the_maximum_and_back" {
  variables {
    scaling = "alarms"
    image   = "registry.example/rowfleet:0.1.0"
  }

  assert {
    condition     = { for name, target in aws_appautoscaling_target.service : name => [target.min_capacity, target.max_capacity] } == { worker = [0, 10], control = [1, 1] }
    error_message = "workers do not range from zero to max_tasks, or another service is not fixed"
  }

  assert {
    condition     = keys(aws_appautoscaling_policy.track) == ["worker"] && keys(aws_appautoscaling_policy.wake) == ["worker"] && keys(aws_appautoscaling_policy.sleep) == ["worker"]
    error_message = "other services than the worker scale"
  }

  assert {
    condition     = one(aws_appautoscaling_policy.track["worker"].target_tracking_scaling_policy_configuration).target_value == 500
    error_message = "the target is not backlog_per_task"
  }

  assert {
    condition     = one([for query in one(one(aws_appautoscaling_policy.track["worker"].target_tracking_scaling_policy_configuration).customized_metric_specification).metrics : query.expression if query.return_data]) == "(visible + inflight) / running"
    error_message = "workers are not scaled by backlog per task"
  }

  assert {
    condition     = one(aws_appautoscaling_policy.wake["worker"].step_scaling_policy_configuration).adjustment_type == "ChangeInCapacity" && one(one(aws_appautoscaling_policy.wake["worker"].step_scaling_policy_configuration).step_adjustment).scaling_adjustment == 1
    error_message = "waking could shrink a fleet"
  }

  assert {
    condition     = one(aws_appautoscaling_policy.sleep["worker"].step_scaling_policy_configuration).adjustment_type == "ExactCapacity" && one(one(aws_appautoscaling_policy.sleep["worker"].step_scaling_policy_configuration).step_adjustment).scaling_adjustment == 0
    error_message = "workers do not go back to zero"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.scaling) == 2 && alltrue([for alarm in aws_cloudwatch_metric_alarm.scaling : alarm.treat_missing_data == "notBreaching"])
    error_message = "without data the fleet changes"
  }

  assert {
    condition     = local.sent_by == { service = "rowfleet", role = "aggregator+splitter+sweeper" } && local.rows_queue == { QueueName = "rowfleet-rows" }
    error_message = "the alarms look at other metrics than those that are written"
  }

  assert {
    condition     = { for strategy in aws_ecs_service.service["worker"].capacity_provider_strategy : strategy.capacity_provider => strategy.weight } == { FARGATE = 30, FARGATE_SPOT = 70 }
    error_message = "workers are not mostly on Spot"
  }

  assert {
    condition     = [for strategy in aws_ecs_service.service["control"].capacity_provider_strategy : strategy.capacity_provider] == ["FARGATE"]
    error_message = "the small service may be reclaimed"
  }

  assert {
    condition     = length(aws_lambda_function.scaler) == 0 && length(aws_iam_role.scaler) == 0 && output.scaler_function == null && length(aws_ecr_repository_policy.image) == 0
    error_message = "there is a scaler beside the alarms"
  }
}

run "a_fixed_fleet_without_the_scaler" {
  variables {
    scaling    = "alarms"
    worker     = { min_tasks = 3, max_tasks = 3 }
    splitter   = { tasks = 0 }
    aggregator = { tasks = 2 }
  }

  assert {
    condition     = { for name, target in aws_appautoscaling_target.service : name => [target.min_capacity, target.max_capacity] } == { worker = [3, 3], splitter = [0, 0], aggregator = [2, 2] }
    error_message = "a fixed service is not kept at its number"
  }

  assert {
    condition     = length(aws_appautoscaling_policy.track) + length(aws_appautoscaling_policy.wake) + length(aws_appautoscaling_policy.sleep) + length(aws_cloudwatch_metric_alarm.scaling) == 0
    error_message = "a fleet of fixed size scales"
  }

  assert {
    condition     = local.sent_by.role == "splitter" && output.services["aggregator"].metric_role == "aggregator+sweeper" && !contains(keys(output.services), "control")
    error_message = "services of their own have other roles"
  }
}

run "one_role_of_its_own" {
  variables {
    splitter = {}
  }

  assert {
    condition     = { for name, service in output.services : name => join(",", service.roles) } == { worker = "worker", control = "aggregator,sweeper", splitter = "splitter" }
    error_message = "a role is played twice or by nobody"
  }

  assert {
    condition     = !contains(keys(local.task_statements["control"]), "TakeSources") && !contains(keys(local.environment["control"]), "ROWFLEET_MAPPINGS")
    error_message = "control may do what a service of its own does"
  }
}

run "without_an_image_nothing_runs" {
  variables {
    image = null
  }

  assert {
    condition     = length(aws_ecs_service.service) == 0 && length(aws_ecs_task_definition.service) == 0 && length(aws_lambda_function.scaler) == 0 && output.services == {}
    error_message = "services are made that have no image"
  }

  assert {
    condition     = output.repository_url != "" && length(aws_iam_role.task) == 2
    error_message = "there is nowhere to push the first image"
  }
}
