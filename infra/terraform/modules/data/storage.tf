# The bucket: sources, results, large payloads, and the configuration. With existing_bucket nothing of it is made.

locals {
  own_bucket  = var.existing_bucket == null
  bucket_name = coalesce(var.existing_bucket, var.bucket_name, "${var.prefix}-${local.account_id}-${local.region}")

  # The name through the resource where there is one: what uses it is made after the bucket.
  bucket     = local.own_bucket ? one(aws_s3_bucket.data[*].bucket) : var.existing_bucket
  bucket_arn = local.own_bucket ? one(aws_s3_bucket.data[*].arn) : "arn:${local.partition}:s3:::${local.bucket_name}"

  expire_days = merge(var.expire_days, { work = coalesce(var.expire_days.work, var.ttl_days + 1) })

  # The same names that `rowfleet setup` looks for.
  expiry_rules = {
    for name, rule in {
      rowfleet-work     = { prefix = "work/", days = local.expire_days.work }
      rowfleet-incoming = { prefix = "incoming/", days = local.expire_days.incoming }
      rowfleet-sources  = { prefix = "sources/", days = local.expire_days.sources }
      rowfleet-results  = { prefix = "results/", days = local.expire_days.results }
    } : name => rule if rule.days != null
  }
}

resource "aws_s3_bucket" "data" {
  # checkov:skip=CKV_AWS_18: access logs are a bucket, its cost and its retention of their own; CloudTrail data events do it per account
  # checkov:skip=CKV_AWS_144: replication to another region is a decision on where data may lie, and not this module's
  # checkov:skip=CKV_AWS_145: encrypted with S3's key by default; kms_key_arn switches to a KMS key
  count = local.own_bucket ? 1 : 0

  bucket        = local.bucket_name
  force_destroy = !var.protect_data
  tags          = local.tags
}

resource "aws_s3_bucket_versioning" "data" {
  count = local.own_bucket ? 1 : 0

  bucket = aws_s3_bucket.data[0].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "data" {
  count = local.own_bucket ? 1 : 0

  bucket = aws_s3_bucket.data[0].id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_ownership_controls" "data" {
  count = local.own_bucket ? 1 : 0

  bucket = aws_s3_bucket.data[0].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "data" {
  count = local.own_bucket ? 1 : 0

  bucket                  = aws_s3_bucket.data[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

data "aws_iam_policy_document" "bucket" {
  count = local.own_bucket ? 1 : 0

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"] # a wildcard in a Deny grants nothing
    resources = [aws_s3_bucket.data[0].arn, "${aws_s3_bucket.data[0].arn}/*"]

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
  count = local.own_bucket ? 1 : 0

  bucket = aws_s3_bucket.data[0].id
  policy = data.aws_iam_policy_document.bucket[0].json

  depends_on = [aws_s3_bucket_public_access_block.data] # S3 refuses concurrent changes of this kind
}

resource "aws_s3_bucket_lifecycle_configuration" "data" {
  count = local.own_bucket ? 1 : 0

  bucket = aws_s3_bucket.data[0].id

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
