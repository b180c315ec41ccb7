# The bucket: sources, results, large payloads, and the configuration.

locals {
  bucket_name = coalesce(var.bucket_name, "${var.prefix}-${local.account_id}-${local.region}")

  # The same names that `rowfleet setup` looks for.
  expiry_rules = {
    for name, rule in {
      rowfleet-work     = { prefix = "work/", days = coalesce(var.expire_days.work, var.ttl_days + 1) }
      rowfleet-incoming = { prefix = "incoming/", days = var.expire_days.incoming }
      rowfleet-sources  = { prefix = "sources/", days = var.expire_days.sources }
      rowfleet-results  = { prefix = "results/", days = var.expire_days.results }
    } : name => rule if rule.days != null
  }
}

resource "aws_s3_bucket" "data" {
  # checkov:skip=CKV_AWS_18: access logs are a bucket, its cost and its retention of their own; CloudTrail data events do it per account
  # checkov:skip=CKV_AWS_144: replication to another region is a decision on where data may lie, and not this module's
  # checkov:skip=CKV_AWS_145: encrypted with S3's key by default; kms_key_arn switches to a KMS key
  bucket        = local.bucket_name
  force_destroy = !var.protect_data
  tags          = local.tags
}

resource "aws_s3_bucket_versioning" "data" {
  bucket = aws_s3_bucket.data.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "data" {
  bucket                  = aws_s3_bucket.data.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"] # a wildcard in a Deny grants nothing
    resources = [aws_s3_bucket.data.arn, "${aws_s3_bucket.data.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "data" {
  bucket = aws_s3_bucket.data.id
  policy = data.aws_iam_policy_document.bucket.json

  depends_on = [aws_s3_bucket_public_access_block.data] # S3 refuses concurrent changes of this kind
}

resource "aws_s3_bucket_lifecycle_configuration" "data" {
  bucket = aws_s3_bucket.data.id

  dynamic "rule" {
    for_each = local.expiry_rules

    content {
      id     = rule.key
      status = "Enabled"

      filter {
        prefix = rule.value.prefix
      }

      expiration {
        days = rule.value.days
      }
    }
  }

  rule {
    id     = "rowfleet-work-uploads"
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  rule {
    id     = "rowfleet-old-versions"
    status = "Enabled"

    filter {
      prefix = ""
    }

    noncurrent_version_expiration {
      noncurrent_days = var.expire_days.old_versions
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  depends_on = [aws_s3_bucket_versioning.data]
}

# S3 sends a test message before it accepts the notification, so the queue's policy must exist. It has no filter_suffix,
# which S3 compares by case: the splitter decides which files are tables, and logs why another file starts no run.
resource "aws_s3_bucket_notification" "incoming" {
  bucket = aws_s3_bucket.data.id

  queue {
    id            = "rowfleet-ingest"
    queue_arn     = aws_sqs_queue.main["ingest"].arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "incoming/"
  }

  depends_on = [aws_sqs_queue_policy.main]
}
