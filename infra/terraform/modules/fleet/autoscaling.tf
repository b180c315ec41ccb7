# scaling = alarms: workers from zero to max_tasks and back to zero, by backlog per task.
#
# Every service is a scalable target. One of a fixed size has a minimum that equals its maximum: Application Auto Scaling
# brings a service into its range whenever the range is registered, so a new number takes effect at the apply.
#
# The backlog is the number of rows that are sent and not finished: visible messages plus messages in flight,
# because a worker holds hundreds at a time. There are three policies:
#   wake   0 -> 1. Target tracking scales by a ratio, so it cannot start from zero. This policy also counts the rows
#          that splitters report as sent, because SQS stops publishing the metrics of a queue that was not used for
#          six hours, and takes up to 15 minutes to begin again. It adds a task and never sets a number, so a wrong
#          alarm cannot shrink the fleet.
#   track  1 -> max_tasks and back. Target tracking keeps the backlog per running task at backlog_per_task: it scales
#          out by the ratio after three minutes, and in slowly after fifteen. The number of running tasks is the
#          number of samples of ECS's own CPU metric, one per task and minute. That metric is free; Container
#          Insights is not.
#   sleep  -> min_tasks, if no message was visible, in flight or delayed for ten minutes.
# A task can be removed at any time: a busy one is protected (ECS task protection), and one that is stopped releases
# its rows.

locals {
  targets = var.scaling == "alarms" ? local.services : {}
  elastic = { for name, service in local.targets : name => service if service.minimum < service.maximum } # the worker at most

  splitter_metric_role = local.metric_roles[var.splitter == null ? "control" : "splitter"]
  rows_queue           = { QueueName = element(split(":", var.data.queue_arns["rows"]), -1) }
  worker_ecs           = { ClusterName = local.cluster_name, ServiceName = local.service_names["worker"] }
  sent_by              = { service = var.prefix, role = local.splitter_metric_role }

  scaling_metrics = {
    visible  = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", stat = "Maximum", dimensions = local.rows_queue }
    inflight = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesNotVisible", stat = "Maximum", dimensions = local.rows_queue }
    delayed  = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesDelayed", stat = "Maximum", dimensions = local.rows_queue }
    sent     = { namespace = "rowfleet", name = "rows_sent", stat = "Sum", dimensions = local.sent_by }
    running  = { namespace = "AWS/ECS", name = "CPUUtilization", stat = "SampleCount", dimensions = local.worker_ecs }
  }

  scaling_alarms = length(local.elastic) == 0 ? {} : {
    wake = {
      description = "rows wait and no worker runs"
      uses        = ["visible", "sent", "running"]
      expression  = "IF(FILL(running, 0) < 1, FILL(visible, 0) + FILL(sent, 0), 0)"
      operator    = "GreaterThanThreshold"
      period_s    = 300 # evaluated every minute; five minutes include a late sample of a running task
      periods     = 1
    }
    sleep = {
      description = "no rows are left, so workers stop (usual, no trouble)"
      uses        = ["visible", "inflight", "delayed"]
      expression  = "visible + inflight + delayed"
      operator    = "LessThanOrEqualToThreshold"
      period_s    = 60
      periods     = 10
    }
  }
}

resource "aws_appautoscaling_target" "service" {
  for_each = local.targets

  service_namespace  = "ecs"
  resource_id        = "service/${local.cluster_name}/${aws_ecs_service.service[each.key].name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = each.value.minimum
  max_capacity       = each.value.maximum
  tags               = local.tags
}

resource "aws_appautoscaling_policy" "track" {
  for_each = local.elastic

  name               = "${var.prefix}-${each.key}-track"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.service[each.key].service_namespace
  resource_id        = aws_appautoscaling_target.service[each.key].resource_id
  scalable_dimension = aws_appautoscaling_target.service[each.key].scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = var.worker.backlog_per_task
    scale_out_cooldown = 60
    scale_in_cooldown  = 120

    customized_metric_specification {
      dynamic "metrics" {
        for_each = { for id in ["visible", "inflight", "running"] : id => local.scaling_metrics[id] }

        content {
          id          = metrics.key
          return_data = false

          metric_stat {
            stat = metrics.value.stat

            metric {
              namespace   = metrics.value.namespace
              metric_name = metrics.value.name

              dynamic "dimensions" {
                for_each = metrics.value.dimensions

                content {
                  name  = dimensions.key
                  value = dimensions.value
                }
              }
            }
          }
        }
      }

      metrics {
        id          = "backlog_per_task"
        label       = "unfinished rows for each running task"
        expression  = "(visible + inflight) / running" # no value if no task runs: that is the case of wake
        return_data = true
      }
    }
  }
}

resource "aws_appautoscaling_policy" "wake" {
  for_each = local.elastic

  name               = "${var.prefix}-${each.key}-wake"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.service[each.key].service_namespace
  resource_id        = aws_appautoscaling_target.service[each.key].resource_id
  scalable_dimension = aws_appautoscaling_target.service[each.key].scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 180 # a task needs a minute or two to be counted as running

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = 1
    }
  }
}

resource "aws_appautoscaling_policy" "sleep" {
  for_each = local.elastic

  name               = "${var.prefix}-${each.key}-sleep"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.service[each.key].service_namespace
  resource_id        = aws_appautoscaling_target.service[each.key].resource_id
  scalable_dimension = aws_appautoscaling_target.service[each.key].scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ExactCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 60

    step_adjustment {
      metric_interval_upper_bound = 0
      scaling_adjustment          = each.value.minimum
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "scaling" {
  # checkov:skip=CKV_AWS_319: actions are on; the check does not follow for_each
  for_each = local.scaling_alarms

  alarm_name          = "${var.prefix}-worker-${each.key}"
  alarm_description   = each.value.description
  comparison_operator = each.value.operator
  threshold           = 0
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching" # without data leave the fleet as it is
  alarm_actions       = [each.key == "wake" ? aws_appautoscaling_policy.wake["worker"].arn : aws_appautoscaling_policy.sleep["worker"].arn]
  tags                = local.tags

  dynamic "metric_query" {
    for_each = { for id in each.value.uses : id => local.scaling_metrics[id] }

    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = each.value.period_s
      }
    }
  }

  metric_query {
    id          = "rows"
    label       = each.value.description
    expression  = each.value.expression
    return_data = true
  }
}
