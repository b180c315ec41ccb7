# Permissions. Every action is written out, and every resource is an exact ARN or a prefix in our own bucket. The
# exceptions are ECR's token and the answers to Step Functions tasks, which AWS grants on "*" only, and tasks and log
# streams, whose names are not known yet.

locals {
  table_arn     = aws_dynamodb_table.results.arn
  by_status_arn = "${aws_dynamodb_table.results.arn}/index/by_status"
  bucket_arn    = aws_s3_bucket.data.arn

  sources_read = concat(["${local.bucket_arn}/*"], [for arn in var.source_bucket_arns : "${arn}/*"])
  results      = [for prefix in var.output_prefixes : "${local.bucket_arn}/${prefix}*"]

  look    = ["sqs:GetQueueUrl", "sqs:GetQueueAttributes"]
  send    = concat(["sqs:SendMessage"], local.look)
  consume = concat(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"], local.look)

  # TransactWriteItems has no action of its own: it needs those of the writes in it.
  read_write = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"]

  list_buckets   = { actions = ["s3:ListBucket"], resources = concat([local.bucket_arn], var.source_bucket_arns) }
  read_objects   = { actions = ["s3:GetObject", "s3:GetObjectVersion"], resources = local.sources_read }
  write_payloads = { actions = ["s3:PutObject"], resources = ["${local.bucket_arn}/work/*"] }

  # Every role can end a batch as FAILED, and says so in the batch's manifest.
  write_manifests = { actions = ["s3:PutObject"], resources = [for place in local.results : "${place}manifest.json"] }

  # The splitter looks whether the results of a run can be written, by an upload of its manifest that it aborts.
  check_outputs = { actions = ["s3:AbortMultipartUpload"], resources = local.write_manifests.resources }

  protection = {
    actions   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
    resources = ["arn:${local.partition}:ecs:${local.region}:${local.account_id}:task/${var.prefix}/*"]
  }
  encryption = var.kms_key_arn == null ? {} : {
    Key = { actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.kms_key_arn] }
  }

  task_statements = {
    splitter = merge(local.encryption, {
      TakeSources   = { actions = concat(local.consume, ["sqs:SendMessage"]), resources = [local.queue_arns["ingest"]] }
      SendRows      = { actions = local.send, resources = [local.queue_arns["rows"], local.queue_arns["aggregate"]] }
      CountBatches  = { actions = local.read_write, resources = [local.table_arn] }
      SeeMissing    = local.list_buckets # without it a missing object gives 403 instead of 404
      ReadSources   = local.read_objects
      WritePayloads = local.write_payloads # the rows of a later round that keep their outcome
      SayWhyFailed  = local.write_manifests
      CheckOutputs  = local.check_outputs
      StayAlive     = local.protection
    })

    worker = merge(local.encryption, {
      TakeRows      = { actions = concat(local.consume, ["sqs:SendMessage"]), resources = [local.queue_arns["rows"]] }
      SendAggregate = { actions = local.send, resources = [local.queue_arns["aggregate"]] }
      SendWork      = { actions = local.send, resources = [local.queue_arns["ingest"]] } # of operations that it makes
      CountRows     = { actions = local.read_write, resources = [local.table_arn] }
      SeeMissing    = local.list_buckets
      ReadLongRows  = local.read_objects
      WritePayloads = local.write_payloads
      SayWhyFailed  = local.write_manifests
      StayAlive     = local.protection
      }, {
      for i, statement in var.agent_policy_statements : "Agents${i}" => statement
    })

    aggregator = merge(local.encryption, {
      TakeAggregate   = { actions = concat(local.consume, ["sqs:SendMessage"]), resources = [local.queue_arns["aggregate"]] }
      TakeDeadLetters = { actions = local.consume, resources = [for name in sort(local.queues) : local.queue_arns["${name}-dlq"]] }
      SendAgain       = { actions = local.send, resources = [local.queue_arns["ingest"], local.queue_arns["rows"]] }
      FinishBatches   = { actions = local.read_write, resources = [local.table_arn] }
      FindStuck       = { actions = ["dynamodb:Query"], resources = [local.by_status_arn] }
      SeeMissing      = local.list_buckets
      ReadPayloads    = local.read_objects
      WriteResults    = { actions = ["s3:PutObject", "s3:AbortMultipartUpload"], resources = local.results }
      WritePayloads   = local.write_payloads # the outcome of a dead letter's row may be large
      FindUnfinished  = { actions = ["s3:ListBucketMultipartUploads"], resources = [local.bucket_arn] }
      StayAlive       = local.protection
    }, local.event_statements)
  }

  secret_arns = {
    for service in ["secretsmanager", "ssm"] : service => distinct([
      # the ARN of a secret has seven parts; the rest names a field of it
      for arn in values(var.agent_secrets) : join(":", slice(split(":", arn), 0, min(7, length(split(":", arn)))))
      if split(":", arn)[2] == service
    ])
  }
}

data "aws_iam_policy_document" "assumed_by_tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${local.region}:${local.account_id}:*"]
    }
  }
}

# No conditions on the source, as in AWS's documentation: ECS does not pass the task that it starts.
data "aws_iam_policy_document" "assumed_by_ecs" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

# -- permissions of the services --------------------------------------------------------------------------

data "aws_iam_policy_document" "task" {
  # checkov:skip=CKV_AWS_356: the answers to Step Functions tasks know no resource; nothing else is on "*"
  # checkov:skip=CKV_AWS_111: the same: a task's token, which only its state machine gives away, says what is written
  for_each = local.task_statements

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}

resource "aws_iam_role" "task" {
  for_each           = local.task_statements
  name               = "${var.prefix}-${each.key}"
  description        = "What rowfleet's ${each.key} may do"
  assume_role_policy = data.aws_iam_policy_document.assumed_by_tasks.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "task" {
  for_each = local.task_statements
  name     = "rowfleet"
  role     = aws_iam_role.task[each.key].id
  policy   = data.aws_iam_policy_document.task[each.key].json
}

# -- permissions of ECS to start tasks --------------------------------------------------------------------

data "aws_iam_policy_document" "execution" {
  # checkov:skip=CKV_AWS_356: ecr:GetAuthorizationToken knows no resource; nothing else is on "*"
  statement {
    sid       = "RegistryToken"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "PullImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = concat([aws_ecr_repository.image.arn], var.image_repository_arns)
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.service.arn}:*"]
  }

  dynamic "statement" {
    for_each = length(local.secret_arns.secretsmanager) > 0 ? [1] : []

    content {
      sid       = "ReadSecrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = local.secret_arns.secretsmanager
    }
  }

  dynamic "statement" {
    for_each = length(local.secret_arns.ssm) > 0 ? [1] : []

    content {
      sid       = "ReadParameters"
      actions   = ["ssm:GetParameters"]
      resources = local.secret_arns.ssm
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn != null && length(var.agent_secrets) > 0 ? [1] : []

    content {
      sid       = "DecryptSecrets"
      actions   = ["kms:Decrypt"]
      resources = [var.kms_key_arn]
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.prefix}-execution"
  description        = "What ECS may do to start rowfleet's tasks"
  assume_role_policy = data.aws_iam_policy_document.assumed_by_ecs.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "execution" {
  name   = "rowfleet"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}
