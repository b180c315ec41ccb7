# Properties that hold for every value of the variables.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  mappings_dir = "./tests/config/mappings"
  schemas_dir  = "./tests/config/schemas"
}

run "bucket_is_private" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.data[0].block_public_acls,
      aws_s3_bucket_public_access_block.data[0].block_public_policy,
      aws_s3_bucket_public_access_block.data[0].ignore_public_acls,
      aws_s3_bucket_public_access_block.data[0].restrict_public_buckets,
    ])
    error_message = "the bucket can be made public"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.data[0].rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "the bucket is not encrypted"
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.data[0].versioning_configuration).status == "Enabled"
    error_message = "the bucket is not versioned"
  }

  assert {
    condition = anytrue([
      for statement in data.aws_iam_policy_document.bucket[0].statement : statement.effect == "Deny" && anytrue([
        for condition in statement.condition : condition.variable == "aws:SecureTransport" && contains(condition.values, "false")
      ])
    ])
    error_message = "the bucket answers without TLS"
  }

  assert {
    condition     = !aws_s3_bucket.data[0].force_destroy && aws_dynamodb_table.results.deletion_protection_enabled
    error_message = "data can be destroyed by default"
  }

  assert {
    condition = toset([for rule in aws_s3_bucket_lifecycle_configuration.data[0].rule : rule.id]) == toset([
      "rowfleet-work", "rowfleet-work-uploads", "rowfleet-old-versions",
    ])
    error_message = "by default something else expires than work/, unfinished uploads and old versions"
  }

  assert {
    condition     = one([for rule in aws_s3_bucket_lifecycle_configuration.data[0].rule : one(rule.expiration).days if rule.id == "rowfleet-work"]) == 8 && output.expire_days.work == 8
    error_message = "large payloads expire before the rows that refer to them, or long after"
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
    condition     = aws_sqs_queue.main["rows"].visibility_timeout_seconds == 630 && output.longest_agent_timeout_s == 600 && output.rows_visibility_timeout_s == 630
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
    condition     = [for name, document in data.aws_iam_policy_document.queue : name if anytrue([for statement in document.statement : statement.effect == "Allow"])] == ["ingest"]
    error_message = "S3 sends to another queue than ingest, or may not send to it"
  }

  assert {
    condition     = alltrue([for document in data.aws_iam_policy_document.queue : anytrue([for statement in document.statement : statement.effect == "Deny"])])
    error_message = "a queue answers without TLS"
  }

  assert {
    condition     = one(aws_s3_bucket_notification.incoming[0].queue).filter_prefix == "incoming/" && coalesce(one(aws_s3_bucket_notification.incoming[0].queue).filter_suffix, "none") == "none"
    error_message = "not every object under incoming/ is announced, or others are"
  }
}

run "a_rule_is_not_made_beside_the_notification" {
  assert {
    condition     = length(aws_cloudwatch_event_rule.incoming) == 0 && length(aws_cloudwatch_event_target.incoming) == 0 && output.incoming_rule_arn == null
    error_message = "every file is announced twice"
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

  assert {
    condition     = length(aws_dynamodb_table.results.on_demand_throughput) == 0 && output.warm_throughput_command == null
    error_message = "by default the table is limited, or is to be warmed"
  }
}

run "configuration_is_uploaded" {
  assert {
    condition     = toset([for object in aws_s3_object.config : object.key]) == toset(["config/mappings/slow-agent.yaml", "config/mappings/broken.yml", "config/schemas/slow-agent.yaml"])
    error_message = "not every mapping and schema is uploaded"
  }

  assert {
    condition     = output.mapping_names == toset(["slow-agent", "broken"])
    error_message = "names of mappings are not those of their files"
  }
}

run "many_tags" {
  variables {
    tags = { for number in range(20) : "tag-${number}" => "x" }
  }

  assert {
    condition     = alltrue([for object in aws_s3_object.config : length(coalesce(object.tags, {})) == 0 && length(one(one(object.override_provider).default_tags).tags) == 0])
    error_message = "an object has tags, of which S3 allows ten"
  }

  assert {
    condition     = length(aws_sqs_queue.main["rows"].tags) == 22 && length(aws_dynamodb_table.results.tags) == 22 && length(aws_s3_bucket.data[0].tags) == 22
    error_message = "a resource has not all tags"
  }
}

run "kms_key_is_used" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.data[0].rule).apply_server_side_encryption_by_default).kms_master_key_id == var.kms_key_arn
    error_message = "the bucket does not use the key"
  }

  assert {
    condition     = one(aws_dynamodb_table.results.server_side_encryption).kms_key_arn == var.kms_key_arn
    error_message = "the table does not use the key"
  }
}

run "everything_has_an_output" {
  assert {
    condition     = alltrue([for map in [output.queue_arns, output.queue_urls, output.queue_names] : toset(keys(map)) == toset(["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"])])
    error_message = "a queue is missing in an output"
  }

  assert {
    condition     = output.queue_names["rows-dlq"] == "rowfleet-rows-dlq" && alltrue([for name, queue in aws_sqs_queue.main : queue.name == output.queue_names[name]]) && alltrue([for name, queue in aws_sqs_queue.dead_letters : queue.name == output.queue_names["${name}-dlq"]])
    error_message = "an output has other names than the queues"
  }

  assert {
    condition     = output.bucket == "rowfleet-123456789012-eu-central-1" && output.bucket_arn == aws_s3_bucket.data[0].arn && output.config_url == "s3://${output.bucket}/config"
    error_message = "the outputs name another bucket"
  }

  assert {
    condition     = output.table == "rowfleet-results" && output.table_arn == aws_dynamodb_table.results.arn
    error_message = "the outputs name another table"
  }

  assert {
    condition     = output.max_message_bytes == 262144 && output.max_receives == 5 && output.ttl_days == 7 && output.notified_by == "s3"
    error_message = "an output is not the value of its variable"
  }
}

run "the_command_finds_what_was_made" {
  variables {
    prefix            = "mine"
    ttl_days          = 3
    expire_days       = { work = 9 }
    max_receives      = 4
    max_message_bytes = 65536
  }

  assert {
    condition = output.cli_environment == {
      ROWFLEET_BUCKET                     = "mine-123456789012-eu-central-1"
      ROWFLEET_PREFIX                     = "mine"
      ROWFLEET_TABLE                      = "mine-results"
      ROWFLEET_TTL_DAYS                   = "3"
      ROWFLEET_WORK_TTL_DAYS              = "9"
      ROWFLEET_NOTIFIED_BY                = "s3"
      ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S = "630"
      ROWFLEET_SPLIT__MAX_MESSAGE_BYTES   = "65536"
      ROWFLEET_INGEST__MAX_RECEIVES       = "4"
      ROWFLEET_ROWS__MAX_RECEIVES         = "4"
      ROWFLEET_RESULTS__MAX_RECEIVES      = "4"
    }
    error_message = "`rowfleet setup` would change something that Terraform made"
  }

  assert {
    condition     = one([for rule in aws_s3_bucket_lifecycle_configuration.data[0].rule : one(rule.expiration).days if rule.id == "rowfleet-work"]) == 9
    error_message = "the rule and the setting differ"
  }
}

# More than 256 KiB only with version 6.8 of the provider: version 5 refuses the value itself.
run "queues_of_one_size" {
  variables {
    max_message_bytes = 131072
  }

  assert {
    condition     = alltrue([for queue in concat(values(aws_sqs_queue.main), values(aws_sqs_queue.dead_letters)) : queue.max_message_size == 131072])
    error_message = "a queue takes smaller messages than the others, so that a dead letter might not fit"
  }
}

run "a_limited_and_warm_table" {
  variables {
    table_throughput = { max_write_units = 40000, warm_read_units = 20000, warm_write_units = 40000 }
  }

  assert {
    condition     = one(aws_dynamodb_table.results.on_demand_throughput).max_write_request_units == 40000
    error_message = "the table has no maximum"
  }

  assert {
    condition     = output.warm_throughput_command == "aws dynamodb update-table --region eu-central-1 --table-name rowfleet-results --warm-throughput ReadUnitsPerSecond=20000,WriteUnitsPerSecond=40000"
    error_message = "the command warms something else"
  }
}
