# Three queues, each with its dead-letter queue. The aggregator's sweeper drains the dead letters.

locals {
  queues = toset(["ingest", "rows", "aggregate"])

  rows_visibility_timeout_s = coalesce(var.rows_visibility_timeout_s, max(60, local.longest_agent_timeout_s + 30))
  visibility_timeout_s      = { ingest = 60, rows = local.rows_visibility_timeout_s, aggregate = 60 }

  # SQS allows 1 MiB, but version 5 of this provider refuses more than 256 KiB. The service gets this limit as a
  # setting; the message of a larger row has only its byte range in the source.
  max_message_bytes = 262144

  day_s = 86400
}

resource "aws_sqs_queue" "dead_letters" {
  for_each = local.queues

  name                      = "${var.prefix}-${each.key}-dlq"
  message_retention_seconds = 14 * local.day_s
  max_message_size          = local.max_message_bytes
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

resource "aws_sqs_queue" "main" {
  for_each = local.queues

  name                       = "${var.prefix}-${each.key}"
  message_retention_seconds  = 4 * local.day_s
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = local.visibility_timeout_s[each.key]
  max_message_size           = local.max_message_bytes
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
}

data "aws_iam_policy_document" "queue" {
  for_each = toset([for name in setproduct(local.queues, ["", "-dlq"]) : join("", name)])

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

  # The same statement that `rowfleet setup` would add.
  dynamic "statement" {
    for_each = each.key == "ingest" ? [1] : []

    content {
      sid       = "rowfleet-${local.bucket_name}"
      effect    = "Allow"
      actions   = ["sqs:SendMessage"]
      resources = [local.queue_arns[each.key]]

      principals {
        type        = "Service"
        identifiers = ["s3.amazonaws.com"]
      }

      condition {
        test     = "ArnEquals"
        variable = "aws:SourceArn"
        values   = [aws_s3_bucket.data.arn]
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
