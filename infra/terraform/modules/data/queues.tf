# Three queues, each with its dead-letter queue. The sweeper drains the dead letters.

locals {
  queues      = toset(["ingest", "rows", "aggregate"])
  queue_names = { for parts in setproduct(local.queues, ["", "-dlq"]) : join("", parts) => "${var.prefix}-${join("", parts)}" }

  rows_visibility_timeout_s = coalesce(var.rows_visibility_timeout_s, max(60, local.longest_agent_timeout_s + 30))
  visibility_timeout_s      = { ingest = 60, rows = local.rows_visibility_timeout_s, aggregate = 60 }

  day_s = 86400
}

resource "aws_sqs_queue" "dead_letters" {
  for_each = local.queues

  name                      = local.queue_names["${each.key}-dlq"]
  message_retention_seconds = 14 * local.day_s
  max_message_size          = var.max_message_bytes
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

resource "aws_sqs_queue" "main" {
  for_each = local.queues

  name                       = local.queue_names[each.key]
  message_retention_seconds  = 4 * local.day_s
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = local.visibility_timeout_s[each.key]
  max_message_size           = var.max_message_bytes
  sqs_managed_sse_enabled    = true
  tags                       = local.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters[each.key].arn
    maxReceiveCount     = var.max_receives
  })

  lifecycle {
    precondition {
      condition     = each.key != "rows" || local.rows_visibility_timeout_s > local.longest_agent_timeout_s
      error_message = "rows_visibility_timeout_s has to be longer than the longest execution.timeout_seconds of the mappings (${local.longest_agent_timeout_s} s), or a row could come again while its agent still works on it."
    }
  }
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  for_each = local.queues

  queue_url = aws_sqs_queue.dead_letters[each.key].id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.main[each.key].arn]
  })
}

locals {
  queue_arns = merge(
    { for name, queue in aws_sqs_queue.main : name => queue.arn },
    { for name, queue in aws_sqs_queue.dead_letters : "${name}-dlq" => queue.arn },
  )
  queue_urls = merge(
    { for name, queue in aws_sqs_queue.main : name => queue.id },
    { for name, queue in aws_sqs_queue.dead_letters : "${name}-dlq" => queue.id },
  )

  incoming_rule = "${var.prefix}-incoming"

  # Who sends to a queue beside rowfleet itself. S3's statement is the one that `rowfleet setup` would add.
  senders = {
    for name in keys(local.queue_names) : name =>
    local.own_bucket && name == "ingest" ? { service = "s3", sid = "rowfleet-${local.bucket_name}", arn = local.bucket_arn } :
    !local.own_bucket && startswith(name, "ingest") ? { service = "events", sid = "rowfleet-${local.incoming_rule}", arn = one(aws_cloudwatch_event_rule.incoming[*].arn) } :
    null
  }
}

data "aws_iam_policy_document" "queue" {
  for_each = local.queue_names

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"] # a wildcard in a Deny grants nothing
    resources = [local.queue_arns[each.key]]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  dynamic "statement" {
    for_each = [for sender in [local.senders[each.key]] : sender if sender != null]

    content {
      sid       = statement.value.sid
      effect    = "Allow"
      actions   = ["sqs:SendMessage"]
      resources = [local.queue_arns[each.key]]

      principals {
        type        = "Service"
        identifiers = ["${statement.value.service}.amazonaws.com"]
      }

      condition {
        test     = "ArnEquals"
        variable = "aws:SourceArn"
        values   = [statement.value.arn]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account_id]
      }
    }
  }
}

resource "aws_sqs_queue_policy" "main" {
  for_each = data.aws_iam_policy_document.queue

  queue_url = local.queue_urls[each.key]
  policy    = each.value.json
}
