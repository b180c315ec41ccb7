# A bucket of the team: nothing of it is made, and an EventBridge rule announces its files.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  existing_bucket = "team.data"
  mappings_dir    = "./tests/config/mappings"
  kms_key_arn     = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
}

run "the_bucket_is_left_alone" {
  assert {
    condition = alltrue([
      length(aws_s3_bucket.data) == 0,
      length(aws_s3_bucket_versioning.data) == 0,
      length(aws_s3_bucket_server_side_encryption_configuration.data) == 0,
      length(aws_s3_bucket_ownership_controls.data) == 0,
      length(aws_s3_bucket_public_access_block.data) == 0,
      length(aws_s3_bucket_policy.data) == 0,
      length(aws_s3_bucket_lifecycle_configuration.data) == 0,
      length(aws_s3_bucket_notification.incoming) == 0,
    ])
    error_message = "a property of the team's bucket is set"
  }

  assert {
    condition     = alltrue([for object in aws_s3_object.config : object.bucket == "team.data"]) && toset([for object in aws_s3_object.config : object.key]) == toset(["config/mappings/slow-agent.yaml", "config/mappings/broken.yml"])
    error_message = "mappings are not uploaded to the bucket"
  }

  assert {
    condition     = output.bucket == "team.data" && output.bucket_arn == "arn:aws:s3:::team.data" && output.config_url == "s3://team.data/config"
    error_message = "the outputs name another bucket"
  }

  assert {
    condition     = output.notified_by == "eventbridge" && output.incoming_rule_arn == aws_cloudwatch_event_rule.incoming[0].arn && output.cli_environment.ROWFLEET_NOTIFIED_BY == "eventbridge"
    error_message = "`rowfleet setup --check` would look for a notification of the bucket"
  }
}

run "files_are_announced" {
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.incoming[0].event_pattern) == {
      source        = ["aws.s3"]
      "detail-type" = ["Object Created"]
      detail        = { bucket = { name = ["team.data"] }, object = { key = [{ prefix = "incoming/" }] } }
    }
    error_message = "the rule is about other events than new files under incoming/ of the bucket"
  }

  assert {
    condition     = aws_cloudwatch_event_target.incoming[0].arn == output.queue_arns["ingest"] && aws_cloudwatch_event_target.incoming[0].rule == "rowfleet-incoming" && one(aws_cloudwatch_event_target.incoming[0].dead_letter_config).arn == output.queue_arns["ingest-dlq"]
    error_message = "the events go to another queue, or are lost if they cannot be delivered"
  }

  assert {
    condition     = aws_cloudwatch_event_target.incoming[0].input == null && aws_cloudwatch_event_target.incoming[0].input_path == null && length(aws_cloudwatch_event_target.incoming[0].input_transformer) == 0
    error_message = "the queue gets another message than the event as S3 wrote it"
  }

  assert {
    condition     = toset([for name, document in data.aws_iam_policy_document.queue : name if anytrue([for statement in document.statement : statement.effect == "Allow"])]) == toset(["ingest", "ingest-dlq"])
    error_message = "EventBridge sends to another queue, or may not send to ingest and its dead letters"
  }

  assert {
    condition = alltrue(flatten([
      for document in data.aws_iam_policy_document.queue : [
        for statement in document.statement : [
          statement.actions == toset(["sqs:SendMessage"]),
          one(statement.principals).identifiers == toset(["events.amazonaws.com"]),
          { for condition in statement.condition : condition.variable => one(condition.values) } == {
            "aws:SourceArn"     = aws_cloudwatch_event_rule.incoming[0].arn
            "aws:SourceAccount" = "123456789012"
          },
        ] if statement.effect == "Allow"
      ]
    ]))
    error_message = "not only the rule may send to a queue"
  }

  assert {
    condition     = alltrue([for document in data.aws_iam_policy_document.queue : anytrue([for statement in document.statement : statement.effect == "Deny"])])
    error_message = "a queue answers without TLS"
  }
}

run "own_bucket_first" {
  variables {
    existing_bucket = null
    protect_data    = false
  }

  assert {
    condition     = length(aws_s3_bucket_notification.incoming) == 1 && length(aws_cloudwatch_event_rule.incoming) == 0
    error_message = "a bucket that is made does not announce its files by itself"
  }
}

run "then_the_bucket_of_the_team" {
  assert {
    condition     = length(aws_s3_bucket.data) == 0 && length(aws_cloudwatch_event_rule.incoming) == 1 && output.bucket == "team.data"
    error_message = "the deployment does not move to the team's bucket"
  }

  assert {
    condition     = alltrue([for name, url in output.queue_urls : url == run.own_bucket_first.queue_urls[name]]) && output.table_arn == run.own_bucket_first.table_arn
    error_message = "queues or table are made anew with another bucket"
  }
}
