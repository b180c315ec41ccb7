# One page: backlog, throughput, failures, running tasks.

locals {
  widgets = [
    {
      title = "Messages waiting"
      stat  = "Maximum"
      metrics = [
        for name in sort(local.queues) : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "${var.prefix}-${name}"]
      ]
    },
    {
      title = "Rows"
      stat  = "Sum"
      metrics = [
        ["rowfleet", "rows_sent", "service", var.prefix, "role", local.roles.splitter],
        ["rowfleet", "rows_succeeded", "service", var.prefix, "role", local.roles.worker],
        ["rowfleet", "rows_failed", "service", var.prefix, "role", local.roles.worker],
        ["rowfleet", "agent_retries", "service", var.prefix, "role", local.roles.worker],
      ]
    },
    {
      title   = "Agent, 95 % answer within (ms)"
      stat    = "p95"
      metrics = [["rowfleet", "agent_latency_ms", "service", var.prefix, "role", local.roles.worker]]
    },
    {
      title = "Tasks running"
      stat  = "SampleCount"
      metrics = [
        for name in sort(keys(local.services)) : ["AWS/ECS", "CPUUtilization", "ClusterName", var.prefix, "ServiceName", name]
      ]
    },
    {
      title = "Dead letters"
      stat  = "Maximum"
      metrics = [
        for name in sort(local.queues) : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "${var.prefix}-${name}-dlq"]
      ]
    },
    {
      title = "Runs"
      stat  = "Sum"
      metrics = concat(
        [["rowfleet", "batches_finished", "service", var.prefix, "role", local.roles.aggregator]],
        [for role in sort(values(local.roles)) : ["rowfleet", "batches_failed", "service", var.prefix, "role", role]],
      )
    },
  ]
}

resource "aws_cloudwatch_dashboard" "main" {
  count          = var.dashboard ? 1 : 0
  dashboard_name = var.prefix

  dashboard_body = jsonencode({
    widgets = [
      for i, widget in local.widgets : {
        type   = "metric"
        x      = (i % 2) * 12
        y      = floor(i / 2) * 6
        width  = 12
        height = 6
        properties = {
          title   = widget.title
          region  = local.region
          stat    = widget.stat
          period  = 60
          view    = "timeSeries"
          metrics = widget.metrics
        }
      }
    ]
  })
}
