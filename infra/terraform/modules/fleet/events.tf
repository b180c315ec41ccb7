# Who is told of runs: a webhook, an event bus, a topic; and a state machine that waits for a run.

locals {
  bus        = var.events.event_bus
  bus_arn    = local.bus == null ? null : startswith(local.bus, "arn:") ? local.bus : "arn:${local.partition}:events:${local.region}:${local.account_id}:event-bus/${local.bus}"
  secret_arn = var.events.webhook_secret_arn
  secret_of  = local.secret_arn == null ? "" : split(":", local.secret_arn)[2]

  answers_tasks = var.events.task_tokens || var.state_machine

  event_statements = merge(
    local.bus == null ? {} : { PutEvents = { actions = ["events:PutEvents"], resources = [local.bus_arn] } },
    var.events.topic_arn == null ? {} : { PublishEvents = { actions = ["sns:Publish"], resources = [var.events.topic_arn] } },
    local.secret_of != "secretsmanager" ? {} : { SignEvents = { actions = ["secretsmanager:GetSecretValue"], resources = [local.secret_arn] } },
    local.secret_of != "ssm" ? {} : { SignEvents = { actions = ["ssm:GetParameter"], resources = [local.secret_arn] } },
    # AWS knows no resource for these three: the token says which task is meant.
    !local.answers_tasks ? {} : { AnswerTasks = { actions = ["states:SendTaskSuccess", "states:SendTaskFailure", "states:SendTaskHeartbeat"], resources = ["*"] } },
  )

  # The stores of secrets are not here: their ARNs may be unknown at plan, so the caller names the stores.
  event_endpoints = var.events.endpoints != null ? setunion(var.events.endpoints, local.answers_tasks ? ["states"] : []) : toset(concat(
    local.bus == null ? [] : ["events"],
    var.events.topic_arn == null ? [] : ["sns"],
    local.answers_tasks ? ["states"] : [],
  ))

  # The example names the partition aws. An execution fails if its tasks are in another partition than itself.
  definition = replace(
    templatefile("${path.module}/state-machine.asl.json", { ingest_queue_url = var.data.queue_urls["ingest"] }),
    "/\\barn:[a-z-]+:states:/", "arn:${local.partition}:states:",
  )

  # What a task needs to start, to take and send messages, to write logs and to be protected while it is busy.
  endpoint_services = setunion(["sqs", "ecr.api", "ecr.dkr", "logs", "ecs"], local.event_endpoints)
}

data "aws_iam_policy_document" "assumed_by_states" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

data "aws_iam_policy_document" "state_machine" {
  statement {
    sid       = "StartRuns"
    actions   = ["sqs:SendMessage"]
    resources = [local.queue_arns["ingest"]]
  }
}

resource "aws_iam_role" "state_machine" {
  count                = var.state_machine ? 1 : 0
  name                 = "${var.prefix}-state-machine"
  path                 = var.iam.path
  permissions_boundary = var.iam.permissions_boundary_arn
  description          = "What rowfleet's state machine may do"
  assume_role_policy   = data.aws_iam_policy_document.assumed_by_states.json
  tags                 = local.tags
}

resource "aws_iam_role_policy" "state_machine" {
  count  = var.state_machine ? 1 : 0
  name   = "rowfleet"
  role   = aws_iam_role.state_machine[0].id
  policy = data.aws_iam_policy_document.state_machine.json
}

resource "aws_sfn_state_machine" "run" {
  # checkov:skip=CKV_AWS_284: traces cost by the execution; a run is followed by its batch id in rowfleet's own logs
  # checkov:skip=CKV_AWS_285: Step Functions keeps the history of each execution for 90 days without a log group
  count      = var.state_machine ? 1 : 0
  name       = "${var.prefix}-run"
  role_arn   = aws_iam_role.state_machine[0].arn
  definition = local.definition
  tags       = local.tags

  depends_on = [aws_iam_role_policy.state_machine]
}
