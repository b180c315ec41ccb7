# Batches, counters and outcomes; docs/architecture.md lists the items.

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

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = var.kms_key_arn != null # false means encrypted with a key that DynamoDB owns
    kms_key_arn = var.kms_key_arn
  }
}
