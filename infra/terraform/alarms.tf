# Alarms for operators, all of them to one SNS topic.

locals {
  roles = { splitter = "splitter", worker = "worker", aggregator = "aggregator+sweeper" } # the value of the metrics' dimension `role`

  dead_letter_alarms = {
    for name in local.queues : "${name}-dead-letters" => {
      description = "Messages wait in ${var.prefix}-${name}-dlq that the sweeper could not settle: look at them, docs/operations.md says how"
      metrics     = [{ namespace = "AWS/SQS", name = "ApproximateNumberOfMessagesVisible", stat = "Maximum", dimensions = { QueueName = "${var.prefix}-${name}-dlq" } }]
      threshold   = 0
      minutes     = 10 # the sweeper handles dead letters in less time if it can
      breaching   = 10
    }
  }

  oldest_message_alarms = {
    for name, seconds in var.oldest_message_alarm_s : "${name}-oldest-message" => {
      description = "A message waits in ${var.prefix}-${name} for more than ${seconds} s: too few tasks, or tasks that cannot work; /readyz and the logs say which"
      metrics     = [{ namespace = "AWS/SQS", name = "ApproximateAgeOfOldestMessage", stat = "Maximum", dimensions = { QueueName = "${var.prefix}-${name}" } }]
      threshold   = seconds
      minutes     = 5
      breaching   = 5
    }
  }

  # Metrics that are extracted from logs arrive late, so one bad minute in five is enough. A task that starts or
  # drains is not ready for a while; not-ready therefore needs more bad minutes.
  service_alarms = {
    for name, alarm in {
      batches-failed     = { metric = "batches_failed", says = "A run failed: `rowfleet list` shows which, `rowfleet status` why", roles = values(local.roles), minutes = 5, breaching = 1 }
      batches-all-failed = { metric = "batches_all_failed", says = "Every row of a run failed: `rowfleet errors` groups the causes; a wrong mapping or address is likely", roles = [local.roles.aggregator], minutes = 5, breaching = 1 }
      batches-stuck      = { metric = "batches_stuck", says = "The sweeper found a run that does not move: `rowfleet list`, then the logs of its batch_id", roles = [local.roles.aggregator], minutes = 5, breaching = 1 }
      handler-crashes    = { metric = "handler_crashes", says = "A bug of rowfleet: `handler_crashed` in the logs has its traceback", roles = values(local.roles), minutes = 5, breaching = 1 }
      not-ready          = { metric = "parts_not_ready", says = "A task cannot work (a permission, a queue, the table, a broken mapping): the logs say why, and /readyz", roles = values(local.roles), minutes = 10, breaching = 6 }
      } : name => {
      description = alarm.says
      metrics     = [for role in alarm.roles : { namespace = "rowfleet", name = alarm.metric, stat = "Sum", dimensions = { service = var.prefix, role = role } }]
      threshold   = 0
      minutes     = alarm.minutes
      breaching   = alarm.breaching
    }
  }

  alarms = merge(local.dead_letter_alarms, local.oldest_message_alarms, local.service_alarms)
}

resource "aws_sns_topic" "alarms" {
  # checkov:skip=CKV_AWS_26: alarms hold no data, and SNS's own key (alias/aws/sns) does not let CloudWatch publish
  name = "${var.prefix}-alarms"
  tags = local.tags
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "CloudWatchAlarms"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

resource "aws_sns_topic_subscription" "email" {
  count     = var.alarm_email == null ? 0 : 1
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "watch" {
  # checkov:skip=CKV_AWS_319: actions are on; the check does not follow for_each
  for_each = local.alarms

  alarm_name          = "${var.prefix}-${each.key}"
  alarm_description   = each.value.description
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  evaluation_periods  = each.value.minutes
  datapoints_to_alarm = each.value.breaching
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
  tags                = local.tags

  dynamic "metric_query" {
    for_each = each.value.metrics

    content {
      id = "m${metric_query.key}"

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = 60
      }
    }
  }

  metric_query {
    id          = "watched"
    label       = each.key
    expression  = join(" + ", [for i, _ in each.value.metrics : length(each.value.metrics) > 1 ? "FILL(m${i}, 0)" : "m${i}"])
    return_data = true
  }
}
