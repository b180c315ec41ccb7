# Tasks that did not start, that ended by themselves with an error, or that failed their health check. ECS tries again
# without end if a service is at zero tasks when a version is rolled out, and tells nobody.
# Tasks that scaling, a deployment or Spot stopped are no failure: their stop codes are others.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html

resource "aws_cloudwatch_event_rule" "failed_tasks" {
  count       = var.alarms && length(var.services) > 0 ? 1 : 0
  name        = "${var.prefix}-failed-tasks"
  description = "Tasks of ${var.prefix} that do not start, crash or are unhealthy"
  tags        = local.tags

  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Task State Change"]
    detail = {
      clusterArn = ["arn:${local.partition}:ecs:${local.region}:${local.account_id}:cluster/${var.cluster}"]
      group      = [for name in sort(keys(var.services)) : "service:${name}"]
      lastStatus = ["STOPPED"]
      "$or" = [
        { stopCode = ["TaskFailedToStart"] },
        { stopCode = ["EssentialContainerExited"], containers = { exitCode = [{ numeric = [">", 0] }] } },
        { stoppedReason = [{ prefix = "Task failed" }] }, # … container health checks
      ]
    }
  })
}

resource "aws_cloudwatch_event_target" "failed_tasks" {
  count     = length(aws_cloudwatch_event_rule.failed_tasks)
  rule      = aws_cloudwatch_event_rule.failed_tasks[0].name
  target_id = "alarms"
  arn       = local.topic_arn

  input_transformer {
    input_paths = {
      service  = "$.detail.group"
      reason   = "$.detail.stoppedReason"
      code     = "$.detail.stopCode"
      task     = "$.detail.taskArn"
      revision = "$.detail.taskDefinitionArn"
    }
    # EventBridge puts the values in as JSON, with their quotes.
    input_template = <<-JSON
      {"alarm": "${var.prefix}-failed-tasks", "says": "A task did not start, crashed or was unhealthy", "service": <service>, "reason": <reason>, "code": <code>, "task": <task>, "task_definition": <revision>}
    JSON
  }
}
