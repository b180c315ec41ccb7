# Alarms for operators, all of them to one SNS topic.
#
# Each has metrics by id, and an expression over them that is above 0 (or `threshold`) if something is wrong.
# Metrics that are extracted from logs arrive late, so few bad minutes in more minutes are enough. Unless an alarm says
# otherwise, a minute without data is a good one: a deployment at rest writes none.

locals {
  rowfleet = {
    for name, roles in {
      batches_failed             = local.all_metric_roles
      batches_all_failed         = local.metric_roles.aggregator
      batches_stuck              = local.metric_roles.sweeper
      handler_crashes            = local.all_metric_roles
      parts_not_ready            = local.all_metric_roles
      dead_messages_left         = local.metric_roles.sweeper
      sweeps                     = local.metric_roles.sweeper
      limit_failures             = local.metric_roles.worker
      agent_failures_unavailable = local.metric_roles.worker
      retries_throttled          = local.all_metric_roles
      } : name => {
      for i, role in roles : "${name}_${i}" => {
        namespace  = "rowfleet"
        name       = name
        stat       = name == "dead_messages_left" ? "Maximum" : "Sum"
        dimensions = { service = var.prefix, role = role }
      }
    }
  }

  visible = {
    for name in ["ingest", "rows", "aggregate"] : name => {
      "${name}_visible" = { namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", stat = "Maximum", dimensions = { QueueName = var.queue_names[name] } }
    }
  }

  # The number of samples of ECS's own CPU metric, one per task and minute, is the number of running tasks.
  running = {
    for name in keys(var.services) : name => {
      running = { namespace = "AWS/ECS", name = "CPUUtilization", stat = "SampleCount", dimensions = { ClusterName = var.cluster, ServiceName = name } }
    }
  }

  oldest_message_alarms = {
    for name, seconds in var.oldest_message_alarm_s : "${name}-oldest-message" => {
      description = "A message waits in ${var.queue_names[name]} for more than ${seconds} s: too few tasks, or tasks that cannot work; /readyz and the logs say which"
      metrics     = { age = { namespace = "AWS/SQS", name = "ApproximateAgeOfOldestMessage", stat = "Maximum", dimensions = { QueueName = var.queue_names[name] } } }
      expression  = "age"
      threshold   = seconds
      periods     = 5
      breaching   = 5
    }
  }

  # The sum of one metric over the services that write it.
  service_alarms = {
    for name, alarm in {
      batches-failed     = { metric = "batches_failed", says = "A run failed: `rowfleet list` shows which, `rowfleet status` why", periods = 5, breaching = 1 }
      batches-all-failed = { metric = "batches_all_failed", says = "Every row of a run failed: `rowfleet errors` groups the causes; a wrong mapping or address is likely", periods = 5, breaching = 1 }
      batches-stuck      = { metric = "batches_stuck", says = "The sweeper found a run that does not move: `rowfleet list`, then the logs of its batch_id", periods = 5, breaching = 1 }
      handler-crashes    = { metric = "handler_crashes", says = "A bug of rowfleet: `handler_crashed` in the logs has its traceback", periods = 5, breaching = 1 }
      # A task that starts or drains is not ready for a while.
      not-ready = { metric = "parts_not_ready", says = "A task cannot work (a permission, a queue, the table, a broken mapping): the logs say why, and /readyz", periods = 10, breaching = 6 }
      # The sweeper settles most dead letters itself, some of them after five minutes. While it is at rest, the alarm stays as it was.
      dead-letters      = { metric = "dead_messages_left", says = "Dead letters that the sweeper cannot settle: `rowfleet dead-letters list`, docs/operations.md says how to go on", periods = 15, breaching = 10, missing = "ignore" }
      limit-failures    = { metric = "limit_failures", says = "Workers cannot count calls under a rate limit in the table, and meanwhile make none: `limit_not_asked` in the logs says why", periods = 10, breaching = 3 }
      agent-unavailable = { metric = "agent_failures_unavailable", says = "An agent serves nobody or refuses the credentials: `rowfleet status` of a run shows the trouble, `rowfleet errors` the answers", periods = 5, breaching = 1 }
      throttled         = { metric = "retries_throttled", says = "AWS throttles calls of the service for long: look at the table's throughput and at quotas of SQS, DynamoDB and S3", periods = var.throttled_minutes + 5, breaching = var.throttled_minutes }
      } : name => {
      description = alarm.says
      metrics     = local.rowfleet[alarm.metric]
      expression  = join(" + ", [for id in keys(local.rowfleet[alarm.metric]) : length(local.rowfleet[alarm.metric]) > 1 ? "FILL(${id}, 0)" : id])
      periods     = alarm.periods
      breaching   = alarm.breaching
      missing     = try(alarm.missing, "notBreaching")
    } if length(local.rowfleet[alarm.metric]) > 0
  }

  # At rest the scaler stops the sweeper. Then only messages are a reason for one.
  sweeps  = join(" + ", [for id in keys(local.rowfleet.sweeps) : "FILL(${id}, 0)"])
  waiting = join(" + ", [for metric in local.visible : "FILL(${keys(metric)[0]}, 0)"])
  sweep_alarms = length(local.rowfleet.sweeps) == 0 ? {} : {
    no-sweeps = var.scaling == "alarms" ? {
      description = "No sweep ended for 15 minutes: runs that are stuck stay so, and dead letters wait; is the service of the sweeper running, and ready?"
      metrics     = local.rowfleet.sweeps
      expression  = "IF((${local.sweeps}) < 1, 1, 0)"
      missing     = "breaching"
      } : {
      description = "Messages wait, and no sweep ended for 15 minutes: runs that are stuck stay so, and dead letters wait; did the scaler start the service of the sweeper, and is it ready?"
      metrics     = merge(local.rowfleet.sweeps, values(local.visible)...)
      expression  = "IF((${local.waiting}) > 0 AND (${local.sweeps}) < 1, 1, 0)"
      missing     = "notBreaching"
    }
  }

  queue_of = { splitter = "ingest", worker = "rows", aggregator = "aggregate" }
  queues_of = {
    for name, service in var.services : name => sort([for role, queue in local.queue_of : queue if contains(service.roles, role)])
  }
  not_running_alarms = {
    for name, queues in local.queues_of : "${name}-not-running" => {
      description = "Messages wait in ${join(" or ", [for queue in queues : var.queue_names[queue]])}, and no task of ${name} runs: events of the service and stopped tasks say why (image, subnets, permissions, capacity)"
      metrics     = merge(local.running[name], [for queue in queues : local.visible[queue]]...)
      expression  = "IF((${join(" + ", [for queue in queues : "FILL(${queue}_visible, 0)"])}) > 0 AND FILL(running, 0) < 1, 1, 0)"
      missing     = "notBreaching"
    } if length(queues) > 0 && !contains(local.always_running, name)
  }

  always_running = var.min_tasks == 0 ? [] : [for name, service in var.services : name if contains(service.roles, "worker")]
  always_running_alarms = {
    for name in local.always_running : "${name}-not-running" => {
      description = "No task of ${name} runs: events of the service and stopped tasks say why (image, subnets, permissions, capacity)"
      metrics     = local.running[name]
      expression  = "IF(FILL(running, 0) < 1, 1, 0)"
      missing     = "breaching"
    }
  }

  # By the variable, since the name may not be known yet.
  scaler_alarms = var.scaling != "scaler" || length(var.services) == 0 ? {} : {
    scaler-failed = {
      description = "The scaler fails or is not called, so no task starts or stops: its logs say why; is its EventBridge rule enabled?"
      metrics = {
        for id, name in { errors = "Errors", calls = "Invocations" } :
        id => { namespace = "AWS/Lambda", name = name, stat = "Sum", dimensions = { FunctionName = var.scaler_function } }
      }
      expression = "IF(FILL(errors, 0) > 0 OR FILL(calls, 0) < 1, 1, 0)"
    }
  }

  watched = {
    for name, alarm in merge(
      local.oldest_message_alarms,
      local.service_alarms,
      { for name, alarm in local.sweep_alarms : name => merge(alarm, { period_s = 300, periods = 3, breaching = 3 }) },
      {
        for name, alarm in merge(local.not_running_alarms, local.always_running_alarms) :
        name => merge(alarm, { periods = var.not_running_minutes, breaching = var.not_running_minutes })
      },
      { for name, alarm in local.scaler_alarms : name => merge(alarm, { periods = 10, breaching = 5, missing = "breaching" }) },
    ) : name => alarm if var.alarms
  }
}

resource "aws_cloudwatch_metric_alarm" "watch" {
  # checkov:skip=CKV_AWS_319: actions are on; the check does not follow for_each
  for_each = local.watched

  alarm_name          = "${var.prefix}-${each.key}"
  alarm_description   = each.value.description
  comparison_operator = "GreaterThanThreshold"
  threshold           = try(each.value.threshold, 0)
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.breaching
  treat_missing_data  = try(each.value.missing, "notBreaching")
  alarm_actions       = [local.topic_arn]
  ok_actions          = [local.topic_arn]
  tags                = local.tags

  dynamic "metric_query" {
    for_each = each.value.metrics

    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = try(each.value.period_s, 60)
      }
    }
  }

  metric_query {
    id          = "watched"
    label       = each.key
    expression  = each.value.expression
    return_data = true
  }
}
