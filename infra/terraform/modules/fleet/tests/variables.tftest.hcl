# Every variable refuses wrong values at plan time and accepts right ones. A run lists all variables that must fail.

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
  network = { subnet_ids = ["subnet-0abc", "subnet-0def"], security_group_ids = ["sg-0abc"], assign_public_ip = true }
}

run "defaults_are_good" {
  command = plan
}

run "first_bad_value_of_each" {
  command = plan

  variables {
    prefix                    = "Rowfleet"
    tags                      = { "aws:owner" = "me" }
    data                      = { bucket = "b", bucket_arn = "arn:aws:s3:::bbb", table = "t", table_arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/ttt", queue_arns = { ingest = "arn:aws:sqs:eu-central-1:123456789012:i" }, queue_urls = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, config_url = "s3://b/config", rows_visibility_timeout_s = 60, max_message_bytes = 262144, max_receives = 5, ttl_days = 7 }
    network                   = { subnet_ids = [], security_group_ids = ["sg-0abc"], assign_public_ip = false }
    repository                = { arn = "arn:aws:ecr:eu-central-1:123456789012:repository/mine" }
    image_repository_arns     = ["arn:aws:ecr:eu-central-1:123456789012:repository/*"]
    architecture              = "arm64"
    control                   = { tasks = 0 }
    splitter                  = { cpu = 256, memory = 4096 }
    aggregator                = { tasks = 0 }
    worker                    = { min_tasks = 5, max_tasks = 4 }
    stop_timeout_s            = 121
    settings                  = { ROWFLEET_LOG_LEVEL = "debug" }
    agent_secrets             = { TOKEN = "the-secret-itself" }
    agent_policy_statements   = [{ actions = ["lambda:*"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }]
    policy_statements         = { everybody = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }] }
    mapping_policy_statements = { "my mapping" = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }] }
    source_bucket_arns        = ["my-bucket"]
    output_prefixes           = ["elsewhere/"]
    kms_key_arn               = "alias/mine"
    secret_kms_key_arns       = ["alias/mine"]
    source_kms_key_arns       = ["alias/mine"]
    iam                       = { path = "teams" }
    cluster_arn               = "my-cluster"
    log_group_name            = "arn:aws:logs:eu-central-1:123456789012:log-group:mine"
    log_retention_days        = 8
    logs                      = { mode = "async" }
    scaler                    = { idle_minutes = 0 }
    events                    = { webhook_url = "https://example.com/hook" }
  }

  expect_failures = [
    var.prefix, var.tags, var.data, var.network, var.repository, var.image_repository_arns, var.architecture,
    var.control, var.splitter, var.aggregator, var.worker, var.stop_timeout_s, var.settings, var.agent_secrets,
    var.agent_policy_statements, var.policy_statements, var.mapping_policy_statements, var.source_bucket_arns,
    var.output_prefixes, var.kms_key_arn, var.secret_kms_key_arns, var.source_kms_key_arns, var.iam,
    var.cluster_arn, var.log_group_name, var.log_retention_days, var.logs, var.scaler, var.events,
  ]
}

run "second_bad_value_of_each" {
  command = plan

  variables {
    prefix                    = "a-name-that-is-too-long-for-it"
    tags                      = { for i in range(49) : "tag${i}" => "x" }
    data                      = { bucket = "b", bucket_arn = "arn:aws:s3:::bbb", table = "t", table_arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/ttt", queue_arns = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, queue_urls = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, config_url = "s3://b/config/", rows_visibility_timeout_s = 60, max_message_bytes = 262144, max_receives = 5, ttl_days = 7 }
    network                   = { subnet_ids = ["subnet-0abc"], security_group_ids = [], assign_public_ip = false }
    repository                = { create = false, arn = "mine" }
    architecture              = "RISCV"
    control                   = { min_tasks = 2 }
    splitter                  = { tasks = 1.5 }
    aggregator                = { cpu = 8192, memory = 16384 }
    worker                    = { cpu = 300 }
    stop_timeout_s            = 10
    settings                  = { WORKER__MAX_INFLIGHT_ROW = "200" }
    agent_secrets             = { ROWFLEET_BUCKET = "arn:aws:ssm:eu-central-1:123456789012:parameter/bucket" }
    agent_policy_statements   = [{ actions = ["lambda:InvokeFunction"], resources = ["*"] }]
    policy_statements         = { worker = [{ actions = ["lambda:InvokeFunction"], resources = ["*"] }] }
    mapping_policy_statements = { mine = [{ actions = ["lambda:InvokeFunction"], resources = ["*"] }] }
    source_bucket_arns        = ["arn:aws:s3:::my-bucket/*"]
    output_prefixes           = ["results/", "incoming/again/"]
    kms_key_arn               = "arn:aws:kms:eu-central-1:123456789012:alias/mine"
    iam                       = { permissions_boundary_arn = "boundary" }
    log_group_name            = "my group"
    logs                      = { buffer = "25" }
    scaler                    = { memory = 64 }
    events                    = { webhook_url = "http://example.com/", webhook_secret_arn = "arn:aws:ssm:eu-central-1:123456789012:parameter/hook" }
  }

  expect_failures = [
    var.prefix, var.tags, var.data, var.network, var.repository, var.architecture, var.control, var.splitter,
    var.aggregator, var.worker, var.stop_timeout_s, var.settings, var.agent_secrets, var.agent_policy_statements,
    var.policy_statements, var.mapping_policy_statements, var.source_bucket_arns, var.output_prefixes,
    var.kms_key_arn, var.iam, var.log_group_name, var.logs, var.scaler, var.events,
  ]
}

run "third_bad_value_of_each" {
  command = plan

  variables {
    prefix                    = "ends-with-"
    data                      = { bucket = "b", bucket_arn = "arn:aws:s3:::bbb", table = "t", table_arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/ttt", queue_arns = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, queue_urls = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, config_url = "s3://b/config", rows_visibility_timeout_s = 60, max_message_bytes = 1048577, max_receives = 5, ttl_days = 7 }
    network                   = { subnet_ids = ["my-subnet"], security_group_ids = ["sg-0abc"], assign_public_ip = false }
    repository                = { name = "Mine" }
    control                   = { memory = 300 }
    splitter                  = { tasks = -1 }
    worker                    = { spot_percent = 101 }
    settings                  = { DRAIN_TIMEOUT_S = "500" }
    agent_environment         = { TOKEN = "plain" }
    agent_secrets             = { TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf" }
    agent_policy_statements   = [{ actions = [], resources = [] }]
    policy_statements         = { worker = [{ actions = [], resources = [] }] }
    mapping_policy_statements = { "a-b" = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }], "a_b" = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }] }
    output_prefixes           = ["results/", "/rooted/"]
    iam                       = { task_role_arns = { sweeper = "arn:aws:iam::123456789012:role/mine" } }
    scaler                    = { reserved_concurrency = 0 }
    events                    = { webhook_url = "https://example.com/", webhook_secret_arn = "whsec_the-secret-itself" }
  }

  expect_failures = [
    var.prefix, var.data, var.network, var.repository, var.control, var.splitter, var.worker, var.settings,
    var.agent_secrets, var.agent_policy_statements, var.policy_statements, var.mapping_policy_statements,
    var.output_prefixes, var.iam, var.scaler, var.events,
  ]
}

# Variables that validations of others refer to. Terraform skips a validation that refers to an invalid variable.
run "first_bad_value_that_others_look_at" {
  command = plan

  variables {
    image = "rowfleet"
    proxy = { url = "proxy:3128" }
  }

  expect_failures = [var.image, var.proxy]
}

run "second_bad_value_that_others_look_at" {
  command = plan

  variables {
    image = "registry.example:5000/rowfleet"
    proxy = { url = "http://user:password@proxy:3128" }
  }

  expect_failures = [var.image, var.proxy]
}

run "third_bad_value_that_others_look_at" {
  command = plan

  variables {
    image = "rowfleet:latest"
    proxy = { url = "http://proxy:3128", no_proxy = ["10.0.0.0/8"] }
  }

  expect_failures = [var.image, var.proxy]
}

run "data_of_no_bucket" {
  command = plan

  variables {
    data = { bucket = "b", bucket_arn = "b", table = "t", table_arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/ttt", queue_arns = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, queue_urls = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, config_url = "s3://b/config", rows_visibility_timeout_s = 60, max_message_bytes = 262144, max_receives = 5, ttl_days = 7 }
  }

  expect_failures = [var.data]
}

run "security_groups_of_no_id" {
  command = plan

  variables {
    network = { subnet_ids = ["subnet-0abc"], security_group_ids = ["mine"], assign_public_ip = false }
  }

  expect_failures = [var.network]
}

run "credentials_in_the_plan" {
  command = plan

  variables {
    repository = { create = false, credentials_secret_arn = "user:password" }
  }

  expect_failures = [var.repository]
}

run "a_cache_of_everything" {
  command = plan

  variables {
    repository = { pull_through_cache_arns = ["arn:aws:ecr:eu-central-1:123456789012:repository/*"] }
  }

  expect_failures = [var.repository]
}

run "no_images_kept" {
  command = plan

  variables {
    repository = { keep_images = 0 }
  }

  expect_failures = [var.repository]
}

run "releases_that_expire" {
  command = plan

  variables {
    repository = { expire_tag_prefixes = ["0."] }
  }

  expect_failures = [var.repository]
}

run "alarms_that_wake_control" {
  command = plan

  variables {
    scaling = "alarms"
    control = { min_tasks = 0 }
  }

  expect_failures = [var.control]
}

run "an_unknown_way_to_scale" {
  command = plan

  variables {
    scaling = "lambda"
  }

  expect_failures = [var.scaling]
}

run "a_scaler_from_another_registry" {
  command = plan

  variables {
    image = "registry.example/rowfleet:0.1.0"
  }

  expect_failures = [var.scaling]
}

run "a_scaler_from_another_region" {
  command = plan

  variables {
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/rowfleet:0.1.0"
  }

  expect_failures = [var.scaling]
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

run "worker_of_half_a_base" {
  command = plan

  variables {
    worker = { on_demand_base = 0.5 }
  }

  expect_failures = [var.worker]
}

run "the_scaler_is_told_by_the_module" {
  command = plan

  variables {
    settings = { SCALER__SERVICES = "{}" }
  }

  expect_failures = [var.settings]
}

run "environment_that_is_no_name" {
  command = plan

  variables {
    agent_environment = { "AGENT-URL" = "https://agent.example" }
  }

  expect_failures = [var.agent_environment]
}

run "environment_of_the_service" {
  command = plan

  variables {
    agent_environment = { ROWFLEET_BUCKET = "other" }
  }

  expect_failures = [var.agent_environment]
}

run "environment_of_aws" {
  command = plan

  variables {
    agent_environment = { AWS_ACCESS_KEY_ID = "key" }
  }

  expect_failures = [var.agent_environment]
}

run "two_proxies" {
  command = plan

  variables {
    proxy             = { url = "http://proxy:3128" }
    agent_environment = { https_proxy = "http://other:3128" }
  }

  expect_failures = [var.agent_environment]
}

run "a_role_that_is_no_arn" {
  command = plan

  variables {
    iam = { execution_role_arn = "mine" }
  }

  expect_failures = [var.iam]
}

run "policies_of_nobody" {
  command = plan

  variables {
    iam = { managed_policy_arns = { sweeper = ["arn:aws:iam::aws:policy/ReadOnlyAccess"] } }
  }

  expect_failures = [var.iam]
}

run "policies_on_an_existing_role" {
  command = plan

  variables {
    iam = { task_role_arns = { worker = "arn:aws:iam::123456789012:role/mine" }, managed_policy_arns = { worker = ["arn:aws:iam::aws:policy/ReadOnlyAccess"] } }
  }

  expect_failures = [var.iam]
}

run "no_role_for_the_scaler" {
  command = plan

  variables {
    iam = { create_scaler_role = false }
  }

  expect_failures = [var.iam]
}

run "no_cluster" {
  command = plan

  variables {
    create_cluster = false
  }

  expect_failures = [var.create_cluster]
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

run "events_through_another_service" {
  command = plan

  variables {
    events = { event_bus = "default", endpoints = ["sqs"] }
  }

  expect_failures = [var.events]
}

run "good_values_of_each" {
  command = plan

  variables {
    prefix                    = "my-rows-2"
    tags                      = { team = "data" }
    data                      = { bucket = "b", bucket_arn = "arn:aws:s3:::bbb", table = "t", table_arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/ttt", queue_arns = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, queue_urls = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:rowfleet-${name}" }, config_url = "s3://b/config", rows_visibility_timeout_s = 60, max_message_bytes = 262144, max_receives = 5, ttl_days = 7 }
    network                   = { subnet_ids = ["subnet-0abc"], security_group_ids = ["sg-0abc", "sg-0def"], assign_public_ip = false }
    image                     = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/rowfleet@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    repository                = { create = false, arn = "arn:aws:ecr:eu-central-1:123456789012:repository/team/rowfleet", pull_through_cache_arns = ["arn:aws:ecr:eu-central-1:123456789012:repository/docker-hub/*"] }
    image_repository_arns     = ["arn:aws:ecr:eu-central-1:123456789012:repository/team/other"]
    architecture              = "X86_64"
    control                   = { cpu = 512, memory = 1024, tasks = 2, min_tasks = 1 }
    splitter                  = { cpu = 512, memory = 4096, tasks = 0 }
    aggregator                = null
    worker                    = { cpu = 4096, memory = 30720, min_tasks = 2, max_tasks = 1000, backlog_per_task = 1, spot_percent = 0, on_demand_base = 1 }
    stop_timeout_s            = 60
    wait_for_steady_state     = true
    settings                  = { WORKER__MAX_INFLIGHT_ROWS = "200", HTTP__PROXY = "http://proxy.example:3128" }
    agent_environment         = { AGENT_URL = "https://agent.example/" }
    agent_secrets             = { TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf:key::", OTHER = "arn:aws:ssm:eu-central-1:123456789012:parameter/other" }
    agent_policy_statements   = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }]
    policy_statements         = { splitter = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }], worker = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }], aggregator = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }] }
    mapping_policy_statements = { "my-mapping.v2" = [{ actions = ["lambda:InvokeFunction"], resources = ["arn:aws:lambda:eu-central-1:123456789012:function:agent"] }] }
    source_bucket_arns        = ["arn:aws:s3:::other-bucket"]
    output_prefixes           = ["results/", "reports/daily/"]
    kms_key_arn               = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
    secret_kms_key_arns       = ["arn:aws:kms:eu-central-1:123456789012:key/mrk-0123"]
    source_kms_key_arns       = ["arn:aws:kms:eu-central-1:123456789012:key/mrk-0123"]
    iam                       = { path = "/teams/data/", permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary", managed_policy_arns = { worker = ["arn:aws:iam::aws:policy/ReadOnlyAccess"] } }
    cluster_arn               = "arn:aws:ecs:eu-central-1:123456789012:cluster/shared"
    create_cluster            = false
    log_group_name            = "/teams/data"
    log_retention_days        = 365
    logs                      = { mode = "blocking", buffer = "4m" }
    proxy                     = { url = "http://proxy.example:3128", no_proxy = [".amazonaws.com", "agent.internal", "10.0.0.7"] }
    scaling                   = "scaler"
    scaler                    = { idle_minutes = 30, cooldown_s = 60, memory = 512, reserved_concurrency = 1 }
    events                    = { webhook_url = "https://example.com/hook", webhook_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hook-AbCdEf", event_bus = "default", topic_arn = "arn:aws:sns:eu-central-1:123456789012:told", kinds = ["completed", "failed"], task_tokens = true, endpoints = ["events", "sns"] }
    state_machine             = true
  }
}

run "good_values_of_alarms" {
  command = plan

  variables {
    image      = "registry.example:5000/team/rowfleet:0.1.0"
    scaling    = "alarms"
    repository = { create = false, credentials_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:registry-AbCdEf" }
    control    = { tasks = 2, min_tasks = 2 }
    splitter   = null
    aggregator = { cpu = 2048, memory = 4096, tasks = 2 }
  }
}

run "more_permissions_than_a_role_takes" {
  command = plan

  variables {
    scaling = "alarms"
  }

  override_data {
    target = data.aws_iam_policy_document.task
    values = { json = "{\"Statement\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}" }
  }

  expect_failures = [aws_iam_role_policy.task]
}

run "policies_for_a_role_that_exists" {
  command = plan

  variables {
    iam = { scaler_role_arn = "arn:aws:iam::123456789012:role/scaler", managed_policy_arns = { scaler = ["arn:aws:iam::123456789012:policy/a"] } }
  }

  expect_failures = [var.iam]
}

run "an_image_that_nobody_may_pull" {
  command = plan

  variables {
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/rowfleet:0.1.0"
  }

  expect_failures = [aws_ecs_task_definition.service]
}

run "an_image_of_a_named_repository" {
  command = plan

  variables {
    image                 = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/rowfleet:0.1.0"
    image_repository_arns = ["arn:aws:ecr:eu-central-1:123456789012:repository/team/rowfleet"]
  }
}
