# Properties that hold for every value of the variables.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/rowfleet:0.1.0"
  data = {
    bucket     = "rowfleet-bucket"
    bucket_arn = "arn:aws:s3:::rowfleet-bucket"
    table      = "rowfleet-results"
    table_arn  = "arn:aws:dynamodb:eu-central-1:123456789012:table/rowfleet-results"
    queue_arns = {
      ingest        = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-ingest"
      rows          = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-rows"
      aggregate     = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-aggregate"
      ingest-dlq    = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-ingest-dlq"
      rows-dlq      = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-rows-dlq"
      aggregate-dlq = "arn:aws:sqs:eu-central-1:123456789012:rowfleet-aggregate-dlq"
    }
    queue_urls = {
      ingest        = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-ingest"
      rows          = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-rows"
      aggregate     = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-aggregate"
      ingest-dlq    = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-ingest-dlq"
      rows-dlq      = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-rows-dlq"
      aggregate-dlq = "https://sqs.eu-central-1.amazonaws.com/123456789012/rowfleet-aggregate-dlq"
    }
    config_url                = "s3://rowfleet-bucket/config"
    rows_visibility_timeout_s = 630
    max_message_bytes         = 262144
    max_receives              = 5
    ttl_days                  = 7
  }
  agent_secrets = { TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf:key::" }
  network       = { subnet_ids = ["subnet-0abc", "subnet-0def"], security_group_ids = ["sg-0abc"], assign_public_ip = true }
}

run "permissions_are_written_out" {
  assert {
    condition     = alltrue([for statement in flatten([for role in merge(local.task_statements, { scaler = local.scaler_statements, operator = local.operator_statements, submitter = local.submitter_statements }) : values(role)]) : alltrue([for action in statement.actions : can(regex("^[a-z0-9-]+:[A-Za-z]+$", action))])])
    error_message = "a role has a wildcard action"
  }

  assert {
    condition     = alltrue([for statement in flatten([for role in merge(local.task_statements, { scaler = local.scaler_statements, operator = local.operator_statements, submitter = local.submitter_statements }) : values(role)]) : alltrue([for resource in statement.resources : startswith(resource, "arn:") || toset(statement.actions) == toset(["events:ListRuleNamesByTarget", "events:TestEventPattern"])])])
    error_message = "a role is allowed something on everything"
  }

  assert {
    condition     = alltrue([for statement in local.execution_statements : alltrue([for action in statement.actions : !strcontains(action, "*")])])
    error_message = "the execution role has a wildcard action"
  }

  assert {
    condition     = [for statement in local.execution_statements : statement.actions if contains(statement.resources, "*")] == [["ecr:GetAuthorizationToken"]]
    error_message = "the execution role is allowed more on everything than to ask ECR for a token"
  }

  assert {
    condition     = local.execution_statements.ReadSecrets.resources == tolist(["arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf"])
    error_message = "the execution role does not read exactly the secret that is named"
  }

  assert {
    condition = alltrue([
      for name, role in merge(local.task_statements, { scaler = local.scaler_statements, operator = local.operator_statements, submitter = local.submitter_statements }) :
      !anytrue([for statement in values(role) : contains(statement.actions, "s3:DeleteObject") || contains(statement.actions, "dynamodb:DeleteItem") || contains(statement.actions, "sqs:PurgeQueue")])
    ])
    error_message = "a role may delete data"
  }

  assert {
    condition     = alltrue([for name, document in data.aws_iam_policy_document.task : { for statement in document.statement : statement.sid => statement.actions } == { for sid, statement in local.task_statements[name] : sid => toset(statement.actions) }])
    error_message = "a document has other statements than its role"
  }

  assert {
    condition = toset(keys(local.task_statements["control"])) == toset([
      "Send", "UseTable", "SeeMissing", "ReadObjects", "WritePayloads", "WriteManifests", "StayAlive", "TakeSources",
      "CheckOutputs", "TakeAggregate", "WriteResults", "TakeDeadLetters", "FindStuck", "FindUnfinished",
    ])
    error_message = "the service of three roles has other permissions than theirs"
  }

  assert {
    condition     = length(setintersection(keys(local.task_statements["worker"]), ["TakeSources", "TakeAggregate", "TakeDeadLetters", "WriteResults"])) == 0
    error_message = "a worker may do what only other roles do"
  }

  assert {
    condition = alltrue([
      for name, first in local.role_statements : alltrue([
        for other in local.role_statements : alltrue([for sid, statement in first : try(jsonencode(other[sid]) == jsonencode(statement), !contains(keys(other), sid))])
      ])
    ])
    error_message = "two roles have different statements of one name, of which a merge would lose one"
  }
}

run "the_scaler_sees_and_resizes" {
  assert {
    condition     = length(local.scaler_statements.Count.resources) == 6 && local.scaler_statements.Resize.resources == ["arn:aws:ecs:eu-central-1:123456789012:service/rowfleet/control", "arn:aws:ecs:eu-central-1:123456789012:service/rowfleet/worker"]
    error_message = "the scaler does not see all queues, or resizes other services than its own"
  }

  assert {
    condition     = !anytrue([for statement in local.scaler_statements : anytrue([for action in statement.actions : startswith(action, "s3:") || contains(["sqs:SendMessage", "sqs:ReceiveMessage", "ecs:RunTask"], action)])])
    error_message = "the scaler may do more than to count and resize"
  }
}

run "submitters_and_operators_do_no_more_than_commands" {
  assert {
    condition     = [for statement in local.submitter_statements : statement.resources if contains(statement.actions, "sqs:SendMessage")] == [["arn:aws:sqs:eu-central-1:123456789012:rowfleet-ingest"]]
    error_message = "a submitter sends to other queues than ingest"
  }

  assert {
    condition     = !anytrue([for statement in local.operator_statements : anytrue([for action in statement.actions : startswith(action, "dynamodb:Put") || startswith(action, "dynamodb:Update") || startswith(action, "iam:") || startswith(action, "s3:PutBucket") || startswith(action, "s3:PutLifecycle")])])
    error_message = "an operator writes the table or the settings of the bucket"
  }

  assert {
    condition     = alltrue([for sid, statement in local.submitter_statements : jsonencode(local.operator_statements[sid]) == jsonencode(statement)])
    error_message = "an operator may not do what a submitter may"
  }

  assert {
    condition     = local.operator_statements.HandleDeadLetters.resources == local.dead_letters && contains(local.operator_statements.HandleDeadLetters.actions, "sqs:DeleteMessage")
    error_message = "dead letters cannot be handled by an operator"
  }

  assert {
    condition     = [for statement in local.operator_statements : statement.actions if contains(statement.resources, "*")] == [["events:ListRuleNamesByTarget", "events:TestEventPattern"]]
    error_message = "an operator is allowed more on everything than to find the rule of a bucket"
  }

  assert {
    condition     = [for statement in local.operator_statements : statement.resources if contains(statement.actions, "s3:PutObject")] == [["arn:aws:s3:::rowfleet-bucket/sources/*", "arn:aws:s3:::rowfleet-bucket/incoming/*"]]
    error_message = "an operator writes elsewhere than sources"
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
    state_machine       = true
    secret_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/secrets"]
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
    condition     = alltrue([for name, statement in local.task_statements["control"] : !contains(statement.resources, "*") || toset(statement.actions) == toset(["states:SendTaskSuccess", "states:SendTaskFailure", "states:SendTaskHeartbeat"])])
    error_message = "a task role is allowed more on everything than to answer tasks"
  }

  assert {
    condition     = length(setintersection(keys(local.task_statements["worker"]), keys(local.event_statements))) == 0 && !contains(keys(local.task_statements["worker"]), "ReadEncryptedSecrets")
    error_message = "a role that sends nothing may send events"
  }

  assert {
    condition     = local.task_statements["control"].ReadEncryptedSecrets.resources == tolist(["arn:aws:kms:eu-central-1:123456789012:key/secrets"])
    error_message = "the sweeper cannot decrypt the signing secret"
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
    condition     = output.endpoint_services == toset(["sqs", "ecr.api", "ecr.dkr", "logs", "ecs", "events", "sns", "states"])
    error_message = "an isolated network does not reach the targets of events"
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.run[0].definition).States.RunBatch.Parameters.QueueUrl == var.data.queue_urls["ingest"]
    error_message = "the state machine sends its runs elsewhere"
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.run[0].definition).States.RunBatch.Resource == "arn:aws:states:::sqs:sendMessage.waitForTaskToken"
    error_message = "the state machine does not send messages"
  }

  assert {
    condition     = one(data.aws_iam_policy_document.state_machine.statement).resources == toset([var.data.queue_arns["ingest"]])
    error_message = "the state machine may do more than start runs"
  }
}

run "tasks_are_confined" {
  assert {
    condition     = toset(keys(aws_ecs_task_definition.service)) == toset(["control", "worker"])
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
          container.healthCheck.command == ["CMD", "rowfleet", "healthcheck"],
          container.logConfiguration.logDriver == "awslogs",
          container.logConfiguration.options["mode"] == "non-blocking",
          container.logConfiguration.options["max-buffer-size"] == "25m",
        ]
      ]
    ]))
    error_message = "a container has more than it needs, or waits for its logs"
  }

  assert {
    condition     = { for name, task in aws_ecs_task_definition.service : name => one(jsondecode(task.container_definitions)).command } == { control = ["serve", "--roles", "splitter,aggregator,sweeper"], worker = ["serve", "--roles", "worker"] }
    error_message = "the commands do not name every role once"
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
    condition     = local.environment["worker"].ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S == "630" && !contains(keys(local.environment["worker"]), "ROWFLEET_MAPPINGS") && local.environment["control"].ROWFLEET_MAPPINGS == "s3://rowfleet-bucket/config/mappings"
    error_message = "worker and queue do not agree on the visibility of rows, or the splitter has no mappings"
  }

  assert {
    condition     = one(one(jsondecode(aws_ecs_task_definition.service["worker"].container_definitions)).secrets) == { name = "TOKEN", valueFrom = var.agent_secrets.TOKEN } && one(jsondecode(aws_ecs_task_definition.service["control"].container_definitions)).secrets == []
    error_message = "the worker does not get its secret by ARN, or another service gets it"
  }

  assert {
    condition     = alltrue([for task in aws_ecs_task_definition.service : one(task.runtime_platform).cpu_architecture == "ARM64"])
    error_message = "tasks are not on ARM by default"
  }

  assert {
    condition     = alltrue([for name in concat(keys(local.common_environment), keys(local.scaler_environment)) : !startswith(name, "ROWFLEET_") || contains(concat(local.known_settings, local.managed_settings), trimprefix(name, "ROWFLEET_"))])
    error_message = "a task gets a setting that the service does not know"
  }
}

run "versions_that_do_not_start_go_back" {
  assert {
    condition     = alltrue([for service in aws_ecs_service.service : one(service.deployment_circuit_breaker).enable && one(service.deployment_circuit_breaker).rollback && service.deployment_minimum_healthy_percent == 100 && service.force_new_deployment])
    error_message = "a version that does not start stays, or tasks stop before new ones run, or a change of Spot replaces the service"
  }
}

run "images_that_run_never_expire" {
  variables {
    repository = { keep_images = 5, expire_tag_prefixes = ["dev-"] }
  }

  assert {
    condition = [for rule in jsondecode(aws_ecr_lifecycle_policy.image[0].policy).rules : rule.selection] == [
      { tagStatus = "untagged", countType = "imageCountMoreThan", countNumber = 5 },
      { tagStatus = "tagged", tagPrefixList = ["dev-"], countType = "imageCountMoreThan", countNumber = 5 },
    ]
    error_message = "other images expire than those without a tag or with the prefixes that are named"
  }

  assert {
    condition     = aws_ecr_repository.image[0].image_tag_mutability == "IMMUTABLE" && !aws_ecr_repository.image[0].force_delete
    error_message = "tags can be moved, or images destroyed"
  }
}

run "an_image_by_digest_never_expires" {
  variables {
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/rowfleet@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = length(aws_ecr_lifecycle_policy.image) == 0
    error_message = "an image that is named by its digest may expire"
  }
}

run "keys_go_to_the_roles_that_need_them" {
  variables {
    kms_key_arn         = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
    secret_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/secrets"]
    source_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/sources"]
  }

  assert {
    condition     = alltrue([for role in concat(values(local.task_statements), [local.scaler_statements, local.submitter_statements]) : toset(role.UseKey.actions) == toset(["kms:Decrypt", "kms:GenerateDataKey"]) && role.UseKey.resources == [var.kms_key_arn]])
    error_message = "a role may not use the key"
  }

  assert {
    condition     = aws_cloudwatch_log_group.service[0].kms_key_id == var.kms_key_arn
    error_message = "logs do not use the key"
  }

  assert {
    condition     = toset(local.execution_statements.DecryptSecrets.resources) == toset([var.kms_key_arn, "arn:aws:kms:eu-central-1:123456789012:key/secrets"])
    error_message = "ECS cannot decrypt the secrets"
  }

  assert {
    condition     = alltrue([for role in values(local.task_statements) : role.ReadEncryptedSources.resources == tolist(["arn:aws:kms:eu-central-1:123456789012:key/sources"]) && !contains(keys(role), "ReadEncryptedSecrets")])
    error_message = "tasks cannot read encrypted sources, or read secrets that they have no use for"
  }
}

run "workers_that_read_secrets_decrypt_them" {
  variables {
    secret_kms_key_arns       = ["arn:aws:kms:eu-central-1:123456789012:key/secrets"]
    mapping_policy_statements = { "my-agent" = [{ actions = ["secretsmanager:GetSecretValue"], resources = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:own"] }] }
    policy_statements         = { splitter = [{ actions = ["kms:Decrypt"], resources = ["arn:aws:kms:eu-central-1:123456789012:key/other"] }] }
    agent_policy_statements   = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }]
  }

  assert {
    condition     = local.task_statements["worker"].MappingMyAgentx0.actions == tolist(["secretsmanager:GetSecretValue"]) && local.task_statements["worker"].Agents0.actions == tolist(["lambda:InvokeFunction"]) && contains(keys(local.task_statements["worker"]), "ReadEncryptedSecrets")
    error_message = "a worker has not the statements of its mappings"
  }

  assert {
    condition     = local.task_statements["control"].Splitter0.actions == tolist(["kms:Decrypt"]) && !contains(keys(local.task_statements["worker"]), "Splitter0")
    error_message = "statements of a role do not go to the service that plays it"
  }
}

run "the_proxy_is_for_tasks_only" {
  variables {
    proxy = { url = "http://proxy.example:3128", no_proxy = [".amazonaws.com"] }
  }

  assert {
    condition     = alltrue([for environment in values(local.environment) : environment.HTTPS_PROXY == "http://proxy.example:3128" && environment.ROWFLEET_HTTP__PROXY == "environment" && contains(split(",", environment.NO_PROXY), "169.254.170.2") && contains(split(",", environment.NO_PROXY), ".amazonaws.com")])
    error_message = "a service does not get the proxy, or asks for its credentials through it"
  }

  assert {
    condition     = length([for name in keys(local.scaler_environment) : name if strcontains(name, "PROXY") || startswith(name, "AWS_")]) == 0
    error_message = "the scaler, outside the VPC, gets the proxy, or a variable that Lambda refuses"
  }
}

run "another_partition" {
  command = plan

  override_data {
    target = data.aws_partition.current
    values = { partition = "aws-us-gov" }
  }

  variables {
    state_machine = true
  }

  assert {
    condition     = jsondecode(aws_sfn_state_machine.run[0].definition).States.RunBatch.Resource == "arn:aws-us-gov:states:::sqs:sendMessage.waitForTaskToken"
    error_message = "the task of the state machine is in another partition than the machine"
  }
}

run "services_have_time_to_drain" {
  command = plan

  assert {
    condition     = alltrue([for service in values(aws_ecs_service.service) : alltrue([for time in [service.timeouts.create, service.timeouts.update, service.timeouts.delete] : time == "75m"])])
    error_message = "an apply gives up while a busy task still keeps its protection"
  }
}
