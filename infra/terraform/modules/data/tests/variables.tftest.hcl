# Every variable with good and with wrong values.

mock_provider "aws" {
  source = "./tests/mocks"
}

run "bad_value_of_each" {
  command = plan

  variables {
    prefix                    = "Rowfleet"
    tags                      = { "aws:owner" = "me" }
    bucket_name               = "My-Bucket"
    expire_days               = { work = 0 }
    kms_key_arn               = "alias/mine"
    table_name                = "a"
    table_throughput          = { max_read_units = 999 }
    rows_visibility_timeout_s = 5
    max_receives              = 1
    max_message_bytes         = 65535
    mappings_dir              = "./tests/mocks"
    schemas_dir               = "./tests/mocks"
  }

  expect_failures = [
    var.prefix, var.tags, var.bucket_name, var.expire_days, var.kms_key_arn, var.table_name,
    var.table_throughput, var.rows_visibility_timeout_s, var.max_receives, var.max_message_bytes, var.mappings_dir,
    var.schemas_dir,
  ]
}

run "second_bad_value_of_each" {
  command = plan

  variables {
    prefix                    = "a-name-that-is-too-long-for-it"
    tags                      = { for number in range(49) : "tag-${number}" => "x" }
    bucket_name               = "my.bucket"
    expire_days               = { incoming = 2 }
    kms_key_arn               = "arn:aws:kms:eu-central-1:123456789012:alias/mine"
    table_name                = "results table"
    table_throughput          = { warm_read_units = 11999 }
    rows_visibility_timeout_s = 43201
    max_receives              = 1001
    max_message_bytes         = 1048577
    mappings_dir              = "./no/such/folder"
    schemas_dir               = "./no/such/folder"
  }

  expect_failures = [
    var.prefix, var.tags, var.bucket_name, var.expire_days, var.kms_key_arn, var.table_name, var.table_throughput,
    var.rows_visibility_timeout_s, var.max_receives, var.max_message_bytes, var.mappings_dir, var.schemas_dir,
  ]
}

run "third_bad_value_of_each" {
  command = plan

  variables {
    prefix                    = "ends-with-"
    existing_bucket           = "s3://team"
    expire_days               = { old_versions = 0.5 }
    table_throughput          = { warm_write_units = 3999 }
    rows_visibility_timeout_s = 60.5
    max_receives              = 3.5
    max_message_bytes         = 70000.5
  }

  expect_failures = [
    var.prefix, var.existing_bucket, var.expire_days, var.table_throughput, var.rows_visibility_timeout_s,
    var.max_receives, var.max_message_bytes,
  ]
}

run "a_bucket_by_its_arn" {
  command = plan

  variables {
    existing_bucket = "arn:aws:s3:::team"
  }

  expect_failures = [var.existing_bucket]
}

run "two_buckets" {
  command = plan

  variables {
    bucket_name     = "one"
    existing_bucket = "other"
  }

  expect_failures = [var.existing_bucket]
}

run "warmer_than_the_maximum" {
  command = plan

  variables {
    table_throughput = { max_write_units = 4000, warm_write_units = 5000 }
  }

  expect_failures = [var.table_throughput]
}

run "half_a_unit" {
  command = plan

  variables {
    table_throughput = { max_write_units = 4000.5 }
  }

  expect_failures = [var.table_throughput]
}

# Variables that validations of others refer to. Terraform skips a validation that refers to an invalid variable.
run "bad_values_that_others_look_at" {
  command = plan

  variables {
    ttl_days = 0
  }

  expect_failures = [var.ttl_days]
}

run "more_bad_values_that_others_look_at" {
  command = plan

  variables {
    ttl_days = 1.5
  }

  expect_failures = [var.ttl_days]
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
    tags                      = { for number in range(48) : "tag-${number}" => "x" }
    bucket_name               = "my-bucket-1"
    existing_bucket           = null
    expire_days               = { work = 15, old_versions = 1, incoming = 30, sources = 14, results = 365 }
    protect_data              = false
    kms_key_arn               = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
    table_name                = "batch_processor_results"
    table_throughput          = { max_read_units = -1, max_write_units = 4000, warm_read_units = 12000, warm_write_units = 4000 }
    point_in_time_recovery    = false
    ttl_days                  = 14
    rows_visibility_timeout_s = 900
    max_receives              = 3
    max_message_bytes         = 65536
    mappings_dir              = "./tests/config/mappings"
    schemas_dir               = "./tests/config/schemas"
  }

  assert {
    condition     = toset([for rule in aws_s3_bucket_lifecycle_configuration.data[0].rule : rule.id]) == toset(["rowfleet-work", "rowfleet-incoming", "rowfleet-sources", "rowfleet-results", "rowfleet-work-uploads", "rowfleet-old-versions"])
    error_message = "an expiry is missing"
  }
}

run "good_values_with_an_existing_bucket" {
  command = plan

  variables {
    existing_bucket = "team-data.eu"
    expire_days     = { work = 30 }
  }
}
