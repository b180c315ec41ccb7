# Workers scale from zero to their maximum and back; other services do not scale.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image = "registry.example/rowfleet:0.5.0"
}

run "from_zero_to_the_maximum_and_back" {
  assert {
    condition     = one(aws_appautoscaling_target.worker).min_capacity == 0 && one(aws_appautoscaling_target.worker).max_capacity == 10
    error_message = "workers do not range from zero to max_tasks"
  }

  assert {
    condition     = one(aws_appautoscaling_policy.track[0].target_tracking_scaling_policy_configuration).target_value == 500
    error_message = "the target is not backlog_per_task"
  }

  assert {
    condition     = one([for query in one(one(aws_appautoscaling_policy.track[0].target_tracking_scaling_policy_configuration).customized_metric_specification).metrics : query.expression if query.return_data]) == "(visible + inflight) / running"
    error_message = "workers are not scaled by backlog per task"
  }

  assert {
    condition     = one(aws_appautoscaling_policy.wake[0].step_scaling_policy_configuration).adjustment_type == "ChangeInCapacity" && one(one(aws_appautoscaling_policy.wake[0].step_scaling_policy_configuration).step_adjustment).scaling_adjustment == 1
    error_message = "waking could shrink a fleet"
  }

  assert {
    condition     = one(aws_appautoscaling_policy.sleep[0].step_scaling_policy_configuration).adjustment_type == "ExactCapacity" && one(one(aws_appautoscaling_policy.sleep[0].step_scaling_policy_configuration).step_adjustment).scaling_adjustment == 0
    error_message = "workers do not go back to zero"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.scaling : alarm.treat_missing_data == "notBreaching"])
    error_message = "without data the fleet changes"
  }

  assert {
    condition     = toset(keys(aws_ecs_service.fixed)) == toset(["splitter", "aggregator"]) && keys(aws_ecs_service.scaled) == ["worker"]
    error_message = "other services than the worker scale"
  }

  assert {
    condition     = { for strategy in aws_ecs_service.scaled["worker"].capacity_provider_strategy : strategy.capacity_provider => strategy.weight } == { FARGATE = 30, FARGATE_SPOT = 70 }
    error_message = "workers are not mostly on Spot"
  }

  assert {
    condition     = alltrue([for service in aws_ecs_service.fixed : [for strategy in service.capacity_provider_strategy : strategy.capacity_provider] == ["FARGATE"] && service.desired_count == 1])
    error_message = "splitter or aggregator may be reclaimed, or does not run"
  }
}

run "a_fixed_fleet_has_no_autoscaling" {
  variables {
    worker = { min_tasks = 3, max_tasks = 3, spot_percent = 100 }
  }

  assert {
    condition     = length(aws_appautoscaling_target.worker) == 0 && length(aws_cloudwatch_metric_alarm.scaling) == 0 && aws_ecs_service.fixed["worker"].desired_count == 3
    error_message = "a fleet of fixed size scales"
  }

  assert {
    condition     = [for strategy in aws_ecs_service.fixed["worker"].capacity_provider_strategy : strategy.capacity_provider] == ["FARGATE_SPOT"]
    error_message = "spot_percent = 100 is not all Spot"
  }
}

run "without_an_image_nothing_runs" {
  variables {
    image = null
  }

  assert {
    condition     = length(local.all_services) == 0 && length(aws_ecs_task_definition.service) == 0 && length(aws_appautoscaling_target.worker) == 0
    error_message = "services are made that have no image"
  }

  assert {
    condition     = output.repository_url != ""
    error_message = "there is nowhere to push the first image"
  }
}
