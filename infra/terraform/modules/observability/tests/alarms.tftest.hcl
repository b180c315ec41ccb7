# Alarms, their topic, the rule on failed tasks and the dashboard, for the services that there are.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  prefix          = "rowfleet"
  queue_names     = { ingest = "rowfleet-ingest", rows = "rowfleet-rows", aggregate = "rowfleet-aggregate" }
  cluster         = "rowfleet"
  scaler_function = "rowfleet-scaler"
  services = {
    worker  = { roles = ["worker"], metric_role = "worker" }
    control = { roles = ["splitter", "aggregator", "sweeper"], metric_role = "aggregator+splitter+sweeper" }
  }
}

run "alarms_go_somewhere" {
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.watch : alarm.alarm_actions == toset([aws_sns_topic.alarms[0].arn]) && alarm.ok_actions == alarm.alarm_actions])
    error_message = "an alarm has no action"
  }

  assert {
    condition = toset(keys(aws_cloudwatch_metric_alarm.watch)) == toset([
      "ingest-oldest-message", "rows-oldest-message", "aggregate-oldest-message",
      "batches-failed", "batches-all-failed", "batches-stuck", "handler-crashes", "not-ready",
      "dead-letters", "no-sweeps", "limit-failures", "agent-unavailable", "throttled",
      "worker-not-running", "control-not-running", "scaler-failed",
    ])
    error_message = "an alarm is missing"
  }

  assert {
    condition     = output.alarm_topic_arn == aws_sns_topic.alarms[0].arn && keys(output.alarm_arns) == keys(aws_cloudwatch_metric_alarm.watch)
    error_message = "topic or alarms are no outputs"
  }

  assert {
    condition     = length(aws_sns_topic_policy.alarms) == 1 && length(aws_sns_topic_subscription.email) == 0
    error_message = "the topic lets nobody publish, or mails somebody"
  }
}

run "metrics_have_the_roles_of_their_services" {
  assert {
    condition = alltrue(flatten([
      for alarm in aws_cloudwatch_metric_alarm.watch : [
        for query in alarm.metric_query : [
          for metric in query.metric : metric.dimensions == tomap({ service = "rowfleet", role = endswith(query.id, "_1") ? "worker" : "aggregator+splitter+sweeper" })
          if metric.namespace == "rowfleet" && !contains(["limit_failures", "agent_failures_unavailable"], metric.metric_name)
        ]
      ]
    ]))
    error_message = "an alarm looks at a role that no task writes its metric under"
  }

  assert {
    condition = alltrue(flatten([
      for name in ["limit-failures", "agent-unavailable"] : [
        for query in aws_cloudwatch_metric_alarm.watch[name].metric_query : [for metric in query.metric : metric.dimensions.role == "worker"]
      ]
    ]))
    error_message = "an alarm on workers looks at another role"
  }

  assert {
    condition = alltrue(flatten([
      for alarm in aws_cloudwatch_metric_alarm.watch : [
        for query in alarm.metric_query : [
          for sum in alarm.metric_query : strcontains(sum.expression, query.id) if sum.return_data == true && length(query.metric) > 0
        ]
      ]
    ]))
    error_message = "an alarm does not look at one of its metrics"
  }

  assert {
    condition = toset(flatten([
      for query in aws_cloudwatch_metric_alarm.watch["batches-failed"].metric_query : query.metric[*].dimensions.role
    ])) == toset(["worker", "aggregator+splitter+sweeper"])
    error_message = "runs that fail in one of the services raise no alarm"
  }
}

run "at_rest_nothing_is_wrong" {
  assert {
    condition     = alltrue([for name, alarm in aws_cloudwatch_metric_alarm.watch : contains(["notBreaching", "ignore"], alarm.treat_missing_data) || name == "scaler-failed"])
    error_message = "a deployment at zero tasks raises an alarm"
  }

  assert {
    condition     = one([for query in aws_cloudwatch_metric_alarm.watch["no-sweeps"].metric_query : query.expression if query.return_data == true]) == "IF((FILL(aggregate_visible, 0) + FILL(ingest_visible, 0) + FILL(rows_visible, 0)) > 0 AND (FILL(sweeps_0, 0)) < 1, 1, 0)"
    error_message = "a sweeper that is at rest raises an alarm"
  }

  assert {
    condition     = one([for query in aws_cloudwatch_metric_alarm.watch["control-not-running"].metric_query : query.expression if query.return_data == true]) == "IF((FILL(aggregate_visible, 0) + FILL(ingest_visible, 0)) > 0 AND FILL(running, 0) < 1, 1, 0)"
    error_message = "a service at zero tasks raises an alarm without messages, or none with them"
  }
}

run "who_always_runs_is_missed_at_once" {
  variables {
    scaling         = "alarms"
    scaler_function = null
    min_tasks       = 1
  }

  assert {
    condition     = alltrue([for name in ["no-sweeps", "worker-not-running"] : aws_cloudwatch_metric_alarm.watch[name].treat_missing_data == "breaching"])
    error_message = "a sweeper or a worker that should run and does not raises no alarm"
  }

  assert {
    condition     = one([for query in aws_cloudwatch_metric_alarm.watch["no-sweeps"].metric_query : query.expression if query.return_data == true]) == "IF((FILL(sweeps_0, 0)) < 1, 1, 0)"
    error_message = "no sweeps are an alarm only with messages"
  }

  assert {
    condition     = !contains(keys(aws_cloudwatch_metric_alarm.watch), "scaler-failed")
    error_message = "a scaler that does not exist is watched"
  }
}

run "services_of_their_own_are_watched" {
  variables {
    services = {
      worker     = { roles = ["worker"], metric_role = "worker" }
      splitter   = { roles = ["splitter"], metric_role = "splitter" }
      aggregator = { roles = ["aggregator", "sweeper"], metric_role = "aggregator+sweeper" }
    }
  }

  assert {
    condition     = length(setsubtract(["worker-not-running", "splitter-not-running", "aggregator-not-running"], keys(aws_cloudwatch_metric_alarm.watch))) == 0
    error_message = "a service is not watched"
  }

  assert {
    condition     = length(flatten([for query in aws_cloudwatch_metric_alarm.watch["not-ready"].metric_query : query.metric])) == 3
    error_message = "tasks of a service may be not ready without an alarm"
  }
}

run "before_anything_runs_queues_are_watched" {
  variables {
    services        = {}
    scaler_function = null
  }

  assert {
    condition     = toset(keys(aws_cloudwatch_metric_alarm.watch)) == toset(["ingest-oldest-message", "rows-oldest-message", "aggregate-oldest-message"]) && output.event_rule_arn == null
    error_message = "something else than the queues is watched before there are services"
  }

  assert {
    condition     = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.main[0].dashboard_body).widgets : length(widget.properties.metrics) > 0])
    error_message = "the dashboard has an empty widget, which CloudWatch refuses"
  }
}

run "failed_tasks_are_told" {
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.failed_tasks[0].event_pattern).detail == {
      clusterArn = ["arn:aws:ecs:eu-central-1:123456789012:cluster/rowfleet"]
      group      = ["service:control", "service:worker"]
      lastStatus = ["STOPPED"]
      "$or" = [
        { stopCode = ["TaskFailedToStart"] },
        { stopCode = ["EssentialContainerExited"], containers = { exitCode = [{ numeric = [">", 0] }] } },
        { stoppedReason = [{ prefix = "Task failed" }] },
      ]
    }
    error_message = "other tasks are told of than those that failed"
  }

  assert {
    condition     = aws_cloudwatch_event_target.failed_tasks[0].arn == aws_sns_topic.alarms[0].arn
    error_message = "failed tasks are told to nobody"
  }

  assert {
    condition = alltrue([
      for name in keys(aws_cloudwatch_event_target.failed_tasks[0].input_transformer[0].input_paths) :
      strcontains(aws_cloudwatch_event_target.failed_tasks[0].input_transformer[0].input_template, "<${name}>")
    ]) && can(jsondecode(replace(aws_cloudwatch_event_target.failed_tasks[0].input_transformer[0].input_template, "/<\\w+>/", "\"x\"")))
    error_message = "the message on a failed task is no JSON, or leaves something out"
  }

  assert {
    condition = [for statement in data.aws_iam_policy_document.alarms[0].statement : [one(statement.principals).identifiers, length(statement.condition)]] == [
      [toset(["cloudwatch.amazonaws.com"]), 1], [toset(["events.amazonaws.com"]), 0],
    ]
    error_message = "CloudWatch or EventBridge may not publish: EventBridge only without a condition"
  }
}

run "a_topic_of_the_account" {
  variables {
    topic_arn   = "arn:aws:sns:eu-central-1:123456789012:ops"
    alarm_email = "ops@example.com"
  }

  assert {
    condition     = length(aws_sns_topic.alarms) + length(aws_sns_topic_policy.alarms) == 0
    error_message = "a topic is made beside the one that is named, or its policy is replaced"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.watch : alarm.alarm_actions == toset([var.topic_arn])]) && aws_cloudwatch_event_target.failed_tasks[0].arn == var.topic_arn && aws_sns_topic_subscription.email[0].topic_arn == var.topic_arn
    error_message = "something is told elsewhere"
  }

  assert {
    condition     = output.topic_policy_json != null && output.alarm_topic_arn == var.topic_arn && alltrue([for statement in data.aws_iam_policy_document.alarms[0].statement : statement.resources == toset([var.topic_arn])])
    error_message = "the owner of the topic does not learn what its policy needs"
  }
}

run "without_alarms_there_is_a_dashboard" {
  variables {
    alarms      = false
    alarm_email = "ops@example.com"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.watch) + length(aws_sns_topic.alarms) + length(aws_sns_topic_subscription.email) + length(aws_cloudwatch_event_rule.failed_tasks) == 0 && output.alarm_topic_arn == null
    error_message = "alarms are made that nobody wants"
  }

  assert {
    condition     = output.dashboard_name == "rowfleet"
    error_message = "the dashboard went with the alarms"
  }
}

run "without_a_dashboard_there_are_alarms" {
  variables {
    dashboard = false
  }

  assert {
    condition     = length(aws_cloudwatch_dashboard.main) == 0 && output.dashboard_name == null && length(aws_cloudwatch_metric_alarm.watch) > 10
    error_message = "the alarms went with the dashboard"
  }
}
