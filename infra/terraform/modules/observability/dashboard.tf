# One page: backlog, throughput, failures, running tasks.

locals {
  # The lines of metrics of the service, one for each value of the dimension `role` under which it is written.
  lines = {
    for name, roles in {
      rows_sent                  = local.metric_roles.splitter
      rows_succeeded             = local.metric_roles.worker
      rows_failed                = local.metric_roles.worker
      agent_retries              = local.metric_roles.worker
      agent_latency_ms           = local.metric_roles.worker
      agent_failures_rate_limit  = local.metric_roles.worker
      agent_failures_unavailable = local.metric_roles.worker
      limit_failures             = local.metric_roles.worker
      retries_throttled          = local.all_metric_roles
      dead_messages_left         = local.metric_roles.sweeper
      sweeps                     = local.metric_roles.sweeper
      batches_stuck              = local.metric_roles.sweeper
      batches_finished           = local.metric_roles.aggregator
      batches_all_failed         = local.metric_roles.aggregator
      batches_failed             = local.all_metric_roles
    } : name => [for role in roles : ["rowfleet", name, "service", var.prefix, "role", role]]
  }

  widgets = [
    for widget in [
      {
        title = "Messages waiting"
        stat  = "Maximum"
        metrics = [
          for name in ["ingest", "rows", "aggregate"] : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queue_names[name]]
        ]
      },
      {
        title   = "Rows"
        stat    = "Sum"
        metrics = concat(local.lines.rows_sent, local.lines.rows_succeeded, local.lines.rows_failed, local.lines.agent_retries)
      },
      {
        title   = "Agent, 95 % answer within (ms)"
        stat    = "p95"
        metrics = local.lines.agent_latency_ms
      },
      {
        title = "Tasks running"
        stat  = "SampleCount"
        metrics = [
          for name in sort(keys(var.services)) : ["AWS/ECS", "CPUUtilization", "ClusterName", var.cluster, "ServiceName", name]
        ]
      },
      {
        title   = "Dead letters left, stuck runs"
        stat    = "Maximum"
        metrics = concat(local.lines.dead_messages_left, local.lines.batches_stuck)
      },
      {
        title   = "Runs and sweeps"
        stat    = "Sum"
        metrics = concat(local.lines.batches_finished, local.lines.batches_failed, local.lines.batches_all_failed, local.lines.sweeps)
      },
      {
        title   = "Refused by agents, limits and AWS"
        stat    = "Sum"
        metrics = concat(local.lines.agent_failures_rate_limit, local.lines.agent_failures_unavailable, local.lines.limit_failures, local.lines.retries_throttled)
      },
    ] : widget if length(widget.metrics) > 0
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
