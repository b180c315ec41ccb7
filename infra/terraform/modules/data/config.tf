# Mappings and schemas: an apply uploads changed files, and splitters load them without a restart. Runs in progress
# keep the version that they started with.

locals {
  config_folders = { for kind, folder in { mappings = var.mappings_dir, schemas = var.schemas_dir } : kind => folder if folder != null }
  config_files = merge([
    for kind, folder in local.config_folders : {
      for name in fileset(folder, "*.{yaml,yml}") : "${kind}/${name}" => "${folder}/${name}"
    }
  ]...)
  mapping_files = { for name, path in local.config_files : name => path if startswith(name, "mappings/") }

  # A file that is not valid YAML is uploaded as well: the service reports the line and keeps the last good version.
  agent_timeouts_s        = [for path in values(local.mapping_files) : try(tonumber(yamldecode(file(path)).execution.timeout_seconds), 60)]
  longest_agent_timeout_s = ceil(max(0, local.agent_timeouts_s...))
}

# Without tags: S3 allows ten on an object, and the provider's default_tags count too.
resource "aws_s3_object" "config" {
  # checkov:skip=CKV_AWS_186: encrypted like the bucket, by S3's key or by kms_key_arn
  for_each = local.config_files

  bucket       = local.bucket
  key          = "config/${each.key}"
  source       = each.value
  source_hash  = filemd5(each.value)
  content_type = "application/yaml"

  override_provider {
    default_tags {
      tags = {}
    }
  }

  depends_on = [
    aws_s3_bucket_versioning.data,
    aws_s3_bucket_server_side_encryption_configuration.data,
  ]
}
