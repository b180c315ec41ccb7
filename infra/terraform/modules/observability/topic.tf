# The topic of all alarms, unless the account has one.

locals {
  # `create_topic` says it where the ARN of a topic is not known yet: the number of resources has to be known.
  creates_topic = var.alarms && (var.create_topic != null ? var.create_topic : var.topic_arn == null)
  topic_arn     = local.creates_topic ? aws_sns_topic.alarms[0].arn : var.topic_arn
}

resource "aws_sns_topic" "alarms" {
  # checkov:skip=CKV_AWS_26: alarms hold no data, and SNS's own key (alias/aws/sns) does not let CloudWatch publish
  count = local.creates_topic ? 1 : 0
  name  = "${var.prefix}-alarms"
  tags  = local.tags
}

# For the topic of an account this document is an output.
data "aws_iam_policy_document" "alarms" {
  count = var.alarms ? 1 : 0

  statement {
    sid       = "CloudWatchAlarms"
    actions   = ["sns:Publish"]
    resources = [local.topic_arn]

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

  # Without a condition: EventBridge states no source to SNS, and a condition would refuse every event.
  # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sns-permissions
  statement {
    sid       = "FailedTasks"
    actions   = ["sns:Publish"]
    resources = [local.topic_arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  count  = local.creates_topic ? 1 : 0
  arn    = aws_sns_topic.alarms[0].arn
  policy = data.aws_iam_policy_document.alarms[0].json
}

resource "aws_sns_topic_subscription" "email" {
  count     = var.alarms && var.alarm_email != null ? 1 : 0
  topic_arn = local.topic_arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
