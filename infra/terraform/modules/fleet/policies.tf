# Policy documents for people and programs that use the deployment through the rowfleet command. Nothing here is attached.

locals {
  readable = concat(
    [for prefix in concat(["config/", "sources/", "incoming/"], var.output_prefixes) : "${local.bucket_arn}/${prefix}*"],
    [for arn in var.source_bucket_arns : "${arn}/*"],
  )

  # submit, watch, status, list, errors, fetch. Requests (pause, resume, cancel, set, redrive, finish) go through the
  # same queue as jobs, so who may submit may make them.
  submitter_statements = merge(local.encryption, {
    Submit      = { actions = ["sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"], resources = [local.queue_arns["ingest"]] }
    FindQueues  = { actions = ["sqs:GetQueueUrl", "sqs:GetQueueAttributes"], resources = [local.queue_arns["rows"], local.queue_arns["aggregate"]] }
    ReadTable   = { actions = ["dynamodb:GetItem", "dynamodb:Query"], resources = [var.data.table_arn, local.by_status_arn, "${var.data.table_arn}/index/by_timestamp"] }
    SendSources = { actions = ["s3:PutObject", "s3:AbortMultipartUpload"], resources = ["${local.bucket_arn}/sources/*", "${local.bucket_arn}/incoming/*"] }
    SeeMissing  = { actions = ["s3:ListBucket"], resources = concat([local.bucket_arn], var.source_bucket_arns) }
    ReadResults = { actions = ["s3:GetObject", "s3:GetObjectVersion"], resources = local.readable }
  }, local.source_keys)

  # The same, and dead-letters, large outcomes in `errors`, and `setup --check`.
  operator_statements = merge(local.submitter_statements, {
    ReadPayloads      = { actions = ["s3:GetObject"], resources = ["${local.bucket_arn}/work/*"] }
    HandleDeadLetters = { actions = local.consume, resources = local.dead_letters }
    SendAgain         = { actions = ["sqs:SendMessage"], resources = [local.queue_arns["rows"], local.queue_arns["aggregate"]] }
    CheckTable        = { actions = ["dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"], resources = [var.data.table_arn] }
    # With a bucket of yours an EventBridge rule tells of files. AWS knows no resource for the first two.
    FindRule    = { actions = ["events:ListRuleNamesByTarget", "events:TestEventPattern"], resources = ["*"] }
    CheckRule   = { actions = ["events:DescribeRule", "events:ListTargetsByRule"], resources = ["arn:${local.partition}:events:${local.region}:${local.account_id}:rule/*"] }
    CheckBucket = { actions = ["s3:GetLifecycleConfiguration", "s3:GetBucketNotification"], resources = [local.bucket_arn] }
  })

  user_statements = { operator = local.operator_statements, submitter = local.submitter_statements }
}

data "aws_iam_policy_document" "user" {
  # checkov:skip=CKV_AWS_356: the two calls of FindRule know no resource; nothing else is on "*"
  for_each = local.user_statements

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}
