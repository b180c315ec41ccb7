# The modules get each other's names, and each can be left out.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image         = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/rowfleet:0.1.0"
  mappings_dir  = "./tests/config/mappings"
  schemas_dir   = "./tests/config/schemas"
  agent_secrets = { TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf:key::" }
}

run "everything" {
  assert {
    condition     = output.services.control.roles == tolist(["splitter", "aggregator", "sweeper"]) && toset(keys(output.services)) == toset(["control", "worker"])
    error_message = "one small service does not play splitter, aggregator and sweeper"
  }

  assert {
    condition     = output.scaler_function == "rowfleet-scaler" && length(module.observability[0].alarm_arns) > 10
    error_message = "the scaler or the alarms are missing"
  }

  assert {
    condition     = output.rows_visibility_timeout_s == 630 && module.fleet[0].environment["ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S"] == "630"
    error_message = "tasks do not know for how long a row of an agent of 600 s is hidden"
  }

  assert {
    condition     = alltrue([for name in ["ROWFLEET_BUCKET", "ROWFLEET_TABLE", "ROWFLEET_PREFIX"] : length(regexall("export ${name}=", output.cli_environment)) == 1])
    error_message = "the command cannot find the deployment"
  }
}

run "without_an_image_nothing_runs" {
  variables {
    image = null
  }

  assert {
    condition     = length(output.services) == 0 && output.scaler_function == null && output.repository_url != null
    error_message = "without an image there is more, or less, than a repository to push it to"
  }
}

run "isolated" {
  variables {
    network             = "isolated"
    interface_endpoints = ["lambda"]
  }

  assert {
    condition     = toset(keys(output.endpoint_ids)) == toset(["s3", "dynamodb", "sqs", "ecr.api", "ecr.dkr", "logs", "ecs", "secretsmanager", "lambda"])
    error_message = "tasks cannot reach the services that they need"
  }
}

run "data_alone" {
  variables {
    parts = ["data"]
  }

  assert {
    condition     = length(module.fleet) + length(module.network) + length(module.observability) == 0 && output.services == null
    error_message = "more is made than data"
  }

  assert {
    condition     = output.data.queue_names.rows == "rowfleet-rows" && output.data.config_url == "s3://${output.bucket}/config"
    error_message = "another configuration cannot take the data"
  }
}

run "a_fleet_of_other_data_in_another_network" {
  variables {
    parts              = ["fleet", "observability"]
    network            = "existing"
    existing_vpc       = { vpc_id = "vpc-0abc", subnet_ids = ["subnet-0abc", "subnet-0def"] }
    security_group_ids = ["sg-0abc"]
    mappings_dir       = null
    schemas_dir        = null

    existing_data = {
      bucket                    = "team"
      bucket_arn                = "arn:aws:s3:::team"
      table                     = "team-results"
      table_arn                 = "arn:aws:dynamodb:eu-central-1:123456789012:table/team-results"
      queue_arns                = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "arn:aws:sqs:eu-central-1:123456789012:team-${name}" }
      queue_urls                = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "https://sqs.eu-central-1.amazonaws.com/123456789012/team-${name}" }
      queue_names               = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => "team-${name}" }
      config_url                = "s3://team/config"
      rows_visibility_timeout_s = 60
      max_message_bytes         = 262144
      max_receives              = 5
      ttl_days                  = 7
      cli_environment           = { ROWFLEET_BUCKET = "team" }
    }
  }

  assert {
    condition     = length(module.data) + length(module.network) == 0 && output.bucket == "team" && output.subnet_ids == tolist(["subnet-0abc", "subnet-0def"])
    error_message = "data or network are made that are there already"
  }

  assert {
    condition     = module.fleet[0].environment["ROWFLEET_TABLE"] == "team-results" && length(regexall("export ROWFLEET_BUCKET=team\n", output.cli_environment)) == 1
    error_message = "the tasks or the command do not use the data that was given"
  }
}
