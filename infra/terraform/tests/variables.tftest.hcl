# Every variable refuses wrong values at plan time and accepts right ones. A run lists all variables that must fail.

mock_provider "aws" {
  source = "./tests/mocks"
}

run "defaults_are_good" {
  command = plan
}

run "first_bad_value_of_each" {
  command = plan

  variables {
    prefix                    = "Rowfleet"
    bucket_name               = "My_Bucket"
    table_name                = "a"
    tags                      = { "aws:owner" = "me" }
    image                     = "rowfleet"
    image_repository_arns     = ["arn:aws:ecr:eu-central-1:123456789012:repository/*"]
    architecture              = "arm64"
    splitter                  = { cpu = 256, memory = 4096 }
    worker                    = { min_tasks = 5, max_tasks = 4 }
    aggregator                = { tasks = 0 }
    stop_timeout_s            = 121
    settings                  = { "ROWFLEET_LOG_LEVEL" = "debug" }
    agent_secrets             = { TOKEN = "the-secret-itself" }
    agent_policy_statements   = [{ actions = ["lambda:*"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }]
    source_bucket_arns        = ["my-bucket"]
    output_prefixes           = ["elsewhere/"]
    mappings_dir              = "./tests/mocks"
    schemas_dir               = "./tests/mocks"
    kms_key_arn               = "alias/mine"
    expire_days               = { work = 0 }
    rows_visibility_timeout_s = 5
    max_receives              = 1
    vpc_cidr                  = "10.0.0.0/8"
    existing_vpc              = { vpc_id = "vpc-0abc", subnet_ids = ["subnet-0abc"] }
    interface_endpoints       = ["lambda"]
    agent_ports               = [443]
    alarm_email               = "nobody"
    oldest_message_alarm_s    = { rows = 10 }
    log_retention_days        = 8
    events                    = { webhook_url = "https://example.com/hook" }
  }

  expect_failures = [
    var.prefix, var.bucket_name, var.table_name, var.tags, var.image, var.image_repository_arns, var.architecture,
    var.splitter, var.worker, var.aggregator, var.stop_timeout_s, var.settings,
    var.agent_secrets, var.agent_policy_statements, var.source_bucket_arns, var.output_prefixes, var.mappings_dir,
    var.schemas_dir, var.kms_key_arn, var.expire_days, var.rows_visibility_timeout_s, var.max_receives,
    var.vpc_cidr, var.existing_vpc, var.interface_endpoints, var.agent_ports, var.alarm_email,
    var.oldest_message_alarm_s, var.log_retention_days, var.events,
  ]
}

run "second_bad_value_of_each" {
  command = plan

  variables {
    prefix                    = "a-name-that-is-too-long-for-it"
    bucket_name               = "my.bucket"
    table_name                = "results table"
    image                     = "registry.example:5000/rowfleet"
    architecture              = "RISCV"
    splitter                  = { tasks = 1.5 }
    worker                    = { cpu = 300 }
    aggregator                = { cpu = 8192, memory = 16384 }
    stop_timeout_s            = 10
    settings                  = { "log_level" = "debug" }
    agent_secrets             = { ROWFLEET_BUCKET = "arn:aws:ssm:eu-central-1:123456789012:parameter/bucket" }
    agent_policy_statements   = [{ actions = ["lambda:InvokeFunction"], resources = ["*"] }]
    source_bucket_arns        = ["arn:aws:s3:::my-bucket/*"]
    output_prefixes           = ["results/", "incoming/again/"]
    kms_key_arn               = "arn:aws:kms:eu-central-1:123456789012:alias/mine"
    expire_days               = { incoming = 2 }
    rows_visibility_timeout_s = 43201
    max_receives              = 1001
    network                   = "existing"
    vpc_cidr                  = "10.60.0.0/24"
    agent_ports               = [0]
    alarm_email               = "a b@example.com"
    oldest_message_alarm_s    = { ingest = 345601 }
    events                    = { webhook_url = "http://example.com/", webhook_secret_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/hook" }
  }

  expect_failures = [
    var.prefix, var.bucket_name, var.table_name, var.image, var.architecture, var.splitter, var.worker, var.aggregator,
    var.stop_timeout_s, var.settings, var.agent_secrets, var.agent_policy_statements,
    var.source_bucket_arns, var.output_prefixes, var.kms_key_arn, var.expire_days,
    var.rows_visibility_timeout_s, var.max_receives, var.existing_vpc, var.vpc_cidr, var.agent_ports, var.alarm_email,
    var.oldest_message_alarm_s, var.events,
  ]
}

run "third_bad_value_of_each" {
  command = plan

  variables {
    prefix                  = "ends-with-"
    image                   = "rowfleet:latest"
    splitter                = { tasks = -1 }
    worker                  = { spot_percent = 101 }
    settings                = { DRAIN_TIMEOUT_S = "500" }
    agent_environment       = { TOKEN = "plain" }
    agent_secrets           = { TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf" }
    agent_policy_statements = [{ actions = [], resources = [] }]
    output_prefixes         = ["results/", "/rooted/"]
    expire_days             = { old_versions = 0.5 }
    existing_vpc            = { vpc_id = "my-vpc", subnet_ids = [] }
    network                 = "existing"
    vpc_cidr                = "not a range"
    events                  = { webhook_url = "https://example.com/", webhook_secret_arn = "whsec_the-secret-itself" }
  }

  expect_failures = [
    var.prefix, var.image, var.splitter, var.worker, var.settings, var.agent_secrets, var.agent_policy_statements,
    var.output_prefixes, var.expire_days, var.existing_vpc, var.vpc_cidr, var.events,
  ]
}

run "events_on_no_bus" {
  command = plan

  variables {
    events = { event_bus = "a bus" }
  }

  expect_failures = [var.events]
}

run "events_on_a_fifo_topic" {
  command = plan

  variables {
    events = { topic_arn = "arn:aws:sns:eu-central-1:123456789012:told.fifo" }
  }

  expect_failures = [var.events]
}

run "events_of_an_unknown_kind" {
  command = plan

  variables {
    events = { event_bus = "default", kinds = ["done"] }
  }

  expect_failures = [var.events]
}

# Variables that validations of others refer to. Terraform skips a validation that refers to an invalid variable.
run "bad_values_that_others_look_at" {
  command = plan

  variables {
    agent_environment = { "AGENT-URL" = "https://agent.example" }
    ttl_days          = 0
    network           = "private"
  }

  expect_failures = [var.agent_environment, var.ttl_days, var.network]
}

run "more_bad_values_that_others_look_at" {
  command = plan

  variables {
    agent_environment = { ROWFLEET_BUCKET = "other" }
    ttl_days          = 1.5
  }

  expect_failures = [var.agent_environment, var.ttl_days]
}

run "worker_of_no_size" {
  command = plan

  variables {
    worker = { min_tasks = 0, max_tasks = 0 }
  }

  expect_failures = [var.worker]
}

run "worker_of_half_a_task" {
  command = plan

  variables {
    worker = { max_tasks = 2.5 }
  }

  expect_failures = [var.worker]
}

run "worker_without_backlog" {
  command = plan

  variables {
    worker = { backlog_per_task = 0 }
  }

  expect_failures = [var.worker]
}

run "table_outlives_payloads" {
  command = plan

  variables {
    ttl_days    = 30
    expire_days = { work = 30 }
  }

  expect_failures = [var.expire_days]
}

run "visibility_below_the_agent_time_out" {
  command = plan

  variables {
    mappings_dir              = "./tests/config/mappings"
    rows_visibility_timeout_s = 600
  }

  expect_failures = [aws_sqs_queue.main]
}

run "good_values_of_each" {
  command = plan

  variables {
    prefix                    = "my-rows-2"
    bucket_name               = "my-bucket-1"
    table_name                = "batch_processor_results"
    tags                      = { team = "data" }
    image                     = "registry.example:5000/team/rowfleet@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    image_repository_arns     = ["arn:aws:ecr:eu-central-1:123456789012:repository/team/rowfleet"]
    architecture              = "ARM64"
    splitter                  = { cpu = 512, memory = 4096, tasks = 0 }
    worker                    = { cpu = 4096, memory = 30720, min_tasks = 2, max_tasks = 1000, backlog_per_task = 1, spot_percent = 0 }
    aggregator                = { cpu = 2048, memory = 4096, tasks = 2 }
    stop_timeout_s            = 60
    settings                  = { WORKER__MAX_INFLIGHT_ROWS = "200" }
    agent_environment         = { AGENT_URL = "https://agent.example/" }
    agent_secrets             = { TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf:key::", OTHER = "arn:aws:ssm:eu-central-1:123456789012:parameter/other" }
    agent_policy_statements   = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }]
    source_bucket_arns        = ["arn:aws:s3:::other-bucket"]
    output_prefixes           = ["results/", "reports/daily/"]
    mappings_dir              = "./tests/config/mappings"
    schemas_dir               = "./tests/config/schemas"
    kms_key_arn               = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
    ttl_days                  = 14
    expire_days               = { work = 15, old_versions = 1, incoming = 30, sources = 14, results = 365 }
    protect_data              = false
    rows_visibility_timeout_s = 900
    max_receives              = 3
    network                   = "isolated"
    vpc_cidr                  = "172.20.0.0/22"
    interface_endpoints       = ["lambda", "bedrock-runtime"]
    agent_ports               = [8080]
    alarm_email               = "ops@example.com"
    oldest_message_alarm_s    = { ingest = 60, rows = 345600 }
    log_retention_days        = 365
    events                    = { webhook_url = "https://example.com/hook", webhook_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hook-AbCdEf", event_bus = "default", topic_arn = "arn:aws:sns:eu-central-1:123456789012:told", kinds = ["completed", "failed"], task_tokens = true }
    state_machine             = true
    dashboard                 = false
  }
}

run "good_values_of_an_existing_vpc" {
  command = plan

  variables {
    image        = "rowfleet:0.5.0"
    network      = "existing"
    existing_vpc = { vpc_id = "vpc-0abc", subnet_ids = ["subnet-0abc"], assign_public_ip = true }
  }
}
