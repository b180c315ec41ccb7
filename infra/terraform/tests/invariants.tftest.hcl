# Properties that hold for every value of the variables.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image         = "registry.example/rowfleet:0.5.0"
  mappings_dir  = "./tests/config/mappings"
  schemas_dir   = "./tests/config/schemas"
  agent_secrets = { TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf:key::" }
}

run "bucket_is_private" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.data.block_public_acls,
      aws_s3_bucket_public_access_block.data.block_public_policy,
      aws_s3_bucket_public_access_block.data.ignore_public_acls,
      aws_s3_bucket_public_access_block.data.restrict_public_buckets,
    ])
    error_message = "the bucket can be made public"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.data.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "the bucket is not encrypted"
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.data.versioning_configuration).status == "Enabled"
    error_message = "the bucket is not versioned"
  }

  assert {
    condition = anytrue([
      for statement in data.aws_iam_policy_document.bucket.statement : statement.effect == "Deny" && anytrue([
        for condition in statement.condition : condition.variable == "aws:SecureTransport" && contains(condition.values, "false")
      ])
    ])
    error_message = "the bucket answers without TLS"
  }

  assert {
    condition     = !aws_s3_bucket.data.force_destroy && aws_dynamodb_table.results.deletion_protection_enabled
    error_message = "data can be destroyed by default"
  }

  assert {
    condition = toset([for rule in aws_s3_bucket_lifecycle_configuration.data.rule : rule.id]) == toset([
      "rowfleet-work", "rowfleet-work-uploads", "rowfleet-old-versions",
    ])
    error_message = "by default something else expires than work/, unfinished uploads and old versions"
  }
}

run "queues_lose_nothing" {
  assert {
    condition     = alltrue([for queue in concat(values(aws_sqs_queue.main), values(aws_sqs_queue.dead_letters)) : queue.sqs_managed_sse_enabled])
    error_message = "a queue is not encrypted"
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.main : jsondecode(queue.redrive_policy).maxReceiveCount == 5 && can(jsondecode(queue.redrive_policy).deadLetterTargetArn)])
    error_message = "a queue has no dead-letter queue"
  }

  assert {
    condition     = alltrue([for name, queue in aws_sqs_queue.main : queue.message_retention_seconds < aws_sqs_queue.dead_letters[name].message_retention_seconds])
    error_message = "dead letters expire before their queue's messages: they keep the time they were first sent"
  }

  assert {
    condition     = aws_sqs_queue.main["rows"].visibility_timeout_seconds == 630 && local.longest_agent_timeout_s == 600
    error_message = "rows come again while an agent still works on them"
  }

  assert {
    condition = alltrue([
      for document in data.aws_iam_policy_document.queue : alltrue([
        for statement in document.statement : statement.effect == "Deny" || alltrue([
          contains(statement.actions, "sqs:SendMessage") && length(statement.actions) == 1,
          toset([for condition in statement.condition : condition.variable]) == toset(["aws:SourceArn", "aws:SourceAccount"]),
        ])
      ])
    ])
    error_message = "not only our bucket may send to a queue"
  }

  assert {
    condition     = alltrue([for document in data.aws_iam_policy_document.queue : anytrue([for statement in document.statement : statement.effect == "Deny"])])
    error_message = "a queue answers without TLS"
  }

  assert {
    condition     = one(aws_s3_bucket_notification.incoming.queue).filter_prefix == "incoming/" && coalesce(one(aws_s3_bucket_notification.incoming.queue).filter_suffix, "none") == "none"
    error_message = "not every object under incoming/ is announced, or others are"
  }
}

run "table_is_kept" {
  assert {
    condition     = one(aws_dynamodb_table.results.point_in_time_recovery).enabled && one(aws_dynamodb_table.results.ttl).attribute_name == "ttl" && one(aws_dynamodb_table.results.ttl).enabled
    error_message = "the table has no point-in-time recovery, or no expiry by ttl"
  }

  assert {
    condition = { for index in aws_dynamodb_table.results.global_secondary_index : index.name => [index.hash_key, index.range_key, index.projection_type] } == {
      by_timestamp = ["timeline", "timestamp", "ALL"]
      by_status    = ["status_key", "row_id", "ALL"]
    }
    error_message = "the indexes are not those that rowfleet reads"
  }
}

run "permissions_are_written_out" {
  assert {
    condition     = alltrue([for statement in flatten([for role in local.task_statements : values(role)]) : alltrue([for action in statement.actions : can(regex("^[a-z0-9-]+:[A-Za-z]+$", action))])])
    error_message = "a task role has a wildcard action"
  }

  assert {
    condition     = alltrue([for statement in flatten([for role in local.task_statements : values(role)]) : alltrue([for resource in statement.resources : startswith(resource, "arn:")])])
    error_message = "a task role is allowed something on everything"
  }

  assert {
    condition     = alltrue([for statement in data.aws_iam_policy_document.execution.statement : alltrue([for action in statement.actions : !strcontains(action, "*")])])
    error_message = "the execution role has a wildcard action"
  }

  assert {
    condition     = [for statement in data.aws_iam_policy_document.execution.statement : statement.actions if contains(statement.resources, "*")] == [toset(["ecr:GetAuthorizationToken"])]
    error_message = "the execution role is allowed more on everything than to ask ECR for a token"
  }

  assert {
    condition     = local.secret_arns.secretsmanager == tolist(["arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf"])
    error_message = "the execution role does not read exactly the secret that is named"
  }

  assert {
    condition     = alltrue([for name, role in local.task_statements : !anytrue([for statement in values(role) : contains(statement.actions, "s3:DeleteObject") || contains(statement.actions, "dynamodb:DeleteItem") || contains(statement.actions, "sqs:PurgeQueue")])])
    error_message = "a task may delete data"
  }
}

run "nobody_is_told_by_default" {
  assert {
    condition     = local.event_statements == {} && local.events_environment == {} && length(aws_sfn_state_machine.run) == 0
    error_message = "by default somebody is told of runs"
  }
}

run "events_need_what_they_need" {
  variables {
    network       = "isolated"
    state_machine = true
    events = {
      webhook_url        = "https://example.com/hook"
      webhook_secret_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/rowfleet/hook"
      event_bus          = "told"
      topic_arn          = "arn:aws:sns:eu-central-1:123456789012:told"
      kinds              = ["completed", "failed"]
    }
  }

  assert {
    condition = { for name, statement in local.event_statements : name => statement.resources } == {
      PutEvents     = ["arn:${local.partition}:events:${local.region}:${local.account_id}:event-bus/told"]
      PublishEvents = ["arn:aws:sns:eu-central-1:123456789012:told"]
      SignEvents    = ["arn:aws:ssm:eu-central-1:123456789012:parameter/rowfleet/hook"]
      AnswerTasks   = ["*"]
    }
    error_message = "the sweeper may tell others than those that are named"
  }

  assert {
    condition     = alltrue([for name, statement in local.task_statements["aggregator"] : !contains(statement.resources, "*") || toset(statement.actions) == toset(["states:SendTaskSuccess", "states:SendTaskFailure", "states:SendTaskHeartbeat"])])
    error_message = "a task role is allowed more on everything than to answer tasks"
  }

  assert {
    condition     = alltrue([for name in ["splitter", "worker"] : length(setintersection(keys(local.task_statements[name]), keys(local.event_statements))) == 0])
    error_message = "a role that sends nothing may send events"
  }

  assert {
    condition = local.events_environment == {
      ROWFLEET_EVENTS__WEBHOOK_URL    = "https://example.com/hook"
      ROWFLEET_EVENTS__WEBHOOK_SECRET = "ssm:arn:aws:ssm:eu-central-1:123456789012:parameter/rowfleet/hook"
      ROWFLEET_EVENTS__EVENT_BUS      = "told"
      ROWFLEET_EVENTS__TOPIC_ARN      = "arn:aws:sns:eu-central-1:123456789012:told"
      ROWFLEET_EVENTS__KINDS          = "completed,failed"
    }
    error_message = "the tasks do not get the settings of events"
  }

  assert {
    condition     = length(setsubtract(["events", "sns", "ssm", "states"], local.endpoint_services)) == 0
    error_message = "an isolated network does not reach the targets of events"
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.run[0].definition).States.RunBatch.Parameters.QueueUrl == local.queue_urls["ingest"]
    error_message = "the state machine sends its runs elsewhere"
  }

  assert {
    condition     = one(data.aws_iam_policy_document.state_machine.statement).resources == toset([local.queue_arns["ingest"]])
    error_message = "the state machine may do more than start runs"
  }
}

run "tasks_are_confined" {
  assert {
    condition     = toset(keys(aws_ecs_task_definition.service)) == toset(["splitter", "worker", "aggregator"])
    error_message = "not every role has a task definition"
  }

  assert {
    condition = alltrue(flatten([
      for task in aws_ecs_task_definition.service : [
        for container in jsondecode(task.container_definitions) : [
          container.readonlyRootFilesystem,
          container.linuxParameters.capabilities.drop == ["ALL"],
          !can(container.privileged),
          !can(container.portMappings),
          container.image == var.image,
          can(container.healthCheck.command),
          container.logConfiguration.logDriver == "awslogs",
        ]
      ]
    ]))
    error_message = "a container has more than it needs"
  }

  assert {
    condition = alltrue(flatten([
      for task in aws_ecs_task_definition.service : [
        for container in jsondecode(task.container_definitions) : container.stopTimeout <= 120 && container.stopTimeout > tonumber(
          one([for pair in container.environment : pair.value if pair.name == "ROWFLEET_DRAIN_TIMEOUT_S"])
        )
      ]
    ]))
    error_message = "a task is killed before it has drained"
  }

  assert {
    condition = one([
      for pair in one(jsondecode(aws_ecs_task_definition.service["worker"].container_definitions)).environment : pair.value
      if pair.name == "ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S"
    ]) == tostring(aws_sqs_queue.main["rows"].visibility_timeout_seconds)
    error_message = "worker and queue do not agree on the visibility of rows"
  }

  assert {
    condition     = one(one(jsondecode(aws_ecs_task_definition.service["worker"].container_definitions)).secrets) == { name = "TOKEN", valueFrom = var.agent_secrets.TOKEN }
    error_message = "the worker does not get its secret by ARN"
  }

  assert {
    condition     = alltrue([for name in ["splitter", "aggregator"] : one(jsondecode(aws_ecs_task_definition.service[name].container_definitions)).secrets == []])
    error_message = "a secret goes to a role that calls no agent"
  }

  assert {
    condition     = length(aws_vpc_security_group_egress_rule.tasks) == 1 && length(aws_vpc_security_group_ingress_rule.endpoints) == 0
    error_message = "by default tasks do more than call out on 443"
  }
}

run "configuration_is_uploaded" {
  assert {
    condition     = toset([for object in aws_s3_object.config : object.key]) == toset(["config/mappings/slow-agent.yaml", "config/mappings/broken.yml", "config/schemas/slow-agent.yaml"])
    error_message = "not every mapping and schema is uploaded"
  }
}

run "alarms_go_somewhere" {
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.watch : alarm.alarm_actions == toset([aws_sns_topic.alarms.arn])])
    error_message = "an alarm has no action"
  }

  assert {
    condition = toset(keys(aws_cloudwatch_metric_alarm.watch)) == toset([
      "ingest-dead-letters", "rows-dead-letters", "aggregate-dead-letters",
      "ingest-oldest-message", "rows-oldest-message", "aggregate-oldest-message",
      "batches-failed", "batches-all-failed", "batches-stuck", "handler-crashes", "not-ready",
    ])
    error_message = "an alarm is missing"
  }
}

run "kms_key_is_used_everywhere" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.data.rule).apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn
    error_message = "the bucket does not use the key"
  }

  assert {
    condition     = one(aws_dynamodb_table.results.server_side_encryption).kms_key_arn == var.kms_key_arn && aws_cloudwatch_log_group.service.kms_key_id == var.kms_key_arn
    error_message = "table or logs do not use the key"
  }

  assert {
    condition     = alltrue([for role in local.task_statements : role.Key.actions == ["kms:Decrypt", "kms:GenerateDataKey"] && role.Key.resources == [var.kms_key_arn]])
    error_message = "a task may not use the key"
  }
}
