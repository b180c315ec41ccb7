# Batches, counters and outcomes; docs/architecture.md lists the items.

locals {
  # Version 5 of the provider has no warm throughput, and a block of version 6 would not be valid there.
  warm_throughput = join(",", compact([
    var.table_throughput.warm_read_units == null ? "" : "ReadUnitsPerSecond=${var.table_throughput.warm_read_units}",
    var.table_throughput.warm_write_units == null ? "" : "WriteUnitsPerSecond=${var.table_throughput.warm_write_units}",
  ]))
}

resource "aws_dynamodb_table" "results" {
  # checkov:skip=CKV_AWS_119: encrypted with DynamoDB's key by default; kms_key_arn switches to a KMS key
  name         = coalesce(var.table_name, "${var.prefix}-results")
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "batch_id"
  range_key    = "row_id"
  tags         = local.tags

  deletion_protection_enabled = var.protect_data

  dynamic "attribute" {
    for_each = toset(["batch_id", "row_id", "status_key", "timeline", "timestamp"])

    content {
      name = attribute.value
      type = "S"
    }
  }

  # Both are sparse: batches in both, FAILED rows in by_status. A row that succeeded writes to neither.
  global_secondary_index {
    name            = "by_timestamp"
    hash_key        = "timeline"
    range_key       = "timestamp"
    projection_type = "ALL"
  }

  global_secondary_index {
    name            = "by_status"
    hash_key        = "status_key"
    range_key       = "row_id"
    projection_type = "ALL"
  }

  # Not on the indexes: an index that throttles holds up the writes of its table.
  dynamic "on_demand_throughput" {
    for_each = var.table_throughput.max_read_units == null && var.table_throughput.max_write_units == null ? [] : [1]

    content {
      max_read_request_units  = var.table_throughput.max_read_units
      max_write_request_units = var.table_throughput.max_write_units
    }
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }

  server_side_encryption {
    enabled     = var.kms_key_arn != null # false means encrypted with a key that DynamoDB owns
    kms_key_arn = var.kms_key_arn
  }
}
