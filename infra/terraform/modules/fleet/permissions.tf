# The statements of each role. Every action is written out, and every resource is an exact ARN or a prefix in our own
# bucket. The exceptions are ECR's token and the answers to Step Functions tasks, which AWS grants on "*" only, and
# tasks and log streams, whose names are not known yet.
#
# Statements of the same name are equal, whatever the role, so that a service with several roles has each of them once:
# IAM takes 10,240 characters for a role.

locals {
  queue_arns    = var.data.queue_arns
  by_status_arn = "${var.data.table_arn}/index/by_status"
  bucket_arn    = var.data.bucket_arn

  main_queues  = [for name in ["ingest", "rows", "aggregate"] : local.queue_arns[name]]
  dead_letters = [for name in ["ingest", "rows", "aggregate"] : local.queue_arns["${name}-dlq"]]
  results      = [for prefix in var.output_prefixes : "${local.bucket_arn}/${prefix}*"]

  consume = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"]
  decrypt = ["kms:Decrypt"]

  encryption = var.kms_key_arn == null ? {} : {
    UseKey = { actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.kms_key_arn] }
  }
  source_keys = length(var.source_kms_key_arns) == 0 ? {} : {
    ReadEncryptedSources = { actions = local.decrypt, resources = var.source_kms_key_arns }
  }
  secret_keys = length(var.secret_kms_key_arns) == 0 ? {} : {
    ReadEncryptedSecrets = { actions = local.decrypt, resources = var.secret_kms_key_arns }
  }

  # The mappings' own statements, in one id space with agent_policy_statements.
  agent_statements = concat(
    [for i, statement in var.agent_policy_statements : { sid = "Agents${i}", statement = statement }],
    [for i, statement in lookup(var.policy_statements, "worker", []) : { sid = "Worker${i}", statement = statement }],
    flatten([
      for mapping, statements in var.mapping_policy_statements : [
        for i, statement in statements : { sid = "Mapping${join("", [for part in regexall("[A-Za-z0-9]+", mapping) : title(part)])}x${i}", statement = statement }
      ]
    ]),
  )
  agents_read_secrets = length(setintersection(
    ["secretsmanager:GetSecretValue", "ssm:GetParameter", "ssm:GetParameters"],
    flatten(local.agent_statements[*].statement.actions),
  )) > 0

  # All roles send rows, results and requests, and can end a batch as FAILED, which its manifest says.
  # TransactWriteItems has no action of its own: it needs those of the writes in it.
  statements_of_all = merge(local.encryption, local.source_keys, {
    Send           = { actions = ["sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"], resources = local.main_queues }
    UseTable       = { actions = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"], resources = [var.data.table_arn] }
    SeeMissing     = { actions = ["s3:ListBucket"], resources = concat([local.bucket_arn], var.source_bucket_arns) } # without it a missing object gives 403 instead of 404
    ReadObjects    = { actions = ["s3:GetObject", "s3:GetObjectVersion"], resources = concat(["${local.bucket_arn}/*"], [for arn in var.source_bucket_arns : "${arn}/*"]) }
    WritePayloads  = { actions = ["s3:PutObject"], resources = ["${local.bucket_arn}/work/*"] }
    WriteManifests = { actions = ["s3:PutObject"], resources = [for place in local.results : "${place}manifest.json"] }
    StayAlive = {
      actions   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
      resources = ["arn:${local.partition}:ecs:${local.region}:${local.account_id}:task/${local.cluster_name}/*"]
    }
  })

  role_statements = {
    splitter = merge(local.statements_of_all, {
      TakeSources = { actions = local.consume, resources = [local.queue_arns["ingest"]] }
      # The splitter looks whether the results of a run can be written, by an upload of its manifest that it aborts.
      CheckOutputs = { actions = ["s3:AbortMultipartUpload"], resources = [for place in local.results : "${place}manifest.json"] }
    }, { for i, statement in lookup(var.policy_statements, "splitter", []) : "Splitter${i}" => statement })

    worker = merge(local.statements_of_all, {
      TakeRows = { actions = local.consume, resources = [local.queue_arns["rows"]] }
    }, { for each in local.agent_statements : each.sid => each.statement }, local.agents_read_secrets ? local.secret_keys : {})

    aggregator = merge(local.statements_of_all, {
      TakeAggregate = { actions = local.consume, resources = [local.queue_arns["aggregate"]] }
      WriteResults  = { actions = ["s3:PutObject", "s3:AbortMultipartUpload"], resources = local.results }
    }, { for i, statement in lookup(var.policy_statements, "aggregator", []) : "Aggregator${i}" => statement })

    sweeper = merge(local.statements_of_all, {
      TakeDeadLetters = { actions = local.consume, resources = local.dead_letters }
      FindStuck       = { actions = ["dynamodb:Query"], resources = [local.by_status_arn] }
      FindUnfinished  = { actions = ["s3:ListBucketMultipartUploads"], resources = [local.bucket_arn] }
    }, local.event_statements, local.secret_arn == null ? {} : local.secret_keys)
  }

  task_statements = {
    for name, service in local.planned : name => merge([for role in service.roles : local.role_statements[role]]...)
  }

  scaler_statements = merge(local.encryption, {
    Count    = { actions = ["sqs:GetQueueUrl", "sqs:GetQueueAttributes"], resources = concat(local.main_queues, local.dead_letters) }
    Remember = { actions = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem"], resources = [var.data.table_arn] }
    FindRuns = { actions = ["dynamodb:Query"], resources = [local.by_status_arn] }
    Resize   = { actions = ["ecs:DescribeServices", "ecs:UpdateService"], resources = [for name in sort(keys(local.service_arns)) : local.service_arns[name]] }
    Log      = { actions = ["logs:CreateLogStream", "logs:PutLogEvents"], resources = ["${local.log_group_arn}:*"] }
  })

  # Secrets that ECS reads to start a task. The ARN of a secret has seven parts; the rest names a field of it.
  start_secret_arns = {
    for store in ["secretsmanager", "ssm"] : store => distinct([
      for arn in concat(values(var.agent_secrets), compact([var.repository.credentials_secret_arn])) : join(":", slice(split(":", arn), 0, min(7, length(split(":", arn)))))
      if split(":", arn)[2] == store
    ])
  }
  start_keys = compact(concat([var.kms_key_arn], var.secret_kms_key_arns))

  execution_statements = merge(
    {
      RegistryToken = { actions = ["ecr:GetAuthorizationToken"], resources = ["*"] } # knows no resource
      WriteLogs     = { actions = ["logs:CreateLogStream", "logs:PutLogEvents"], resources = ["${local.log_group_arn}:*"] }
    },
    {
      for sid, statement in {
        PullImage      = { actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], resources = concat(local.repository_arns, var.image_repository_arns, var.repository.pull_through_cache_arns) }
        FillCache      = { actions = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"], resources = var.repository.pull_through_cache_arns }
        ReadSecrets    = { actions = ["secretsmanager:GetSecretValue"], resources = local.start_secret_arns.secretsmanager }
        ReadParameters = { actions = ["ssm:GetParameters"], resources = local.start_secret_arns.ssm }
        DecryptSecrets = { actions = local.decrypt, resources = length(flatten(values(local.start_secret_arns))) == 0 ? [] : local.start_keys }
      } : sid => statement if length(statement.resources) > 0
    },
  )
}
