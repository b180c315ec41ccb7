# A root that makes a key and a bucket in the same configuration. The key's ARN is not known when Terraform plans.

terraform {
  required_version = ">= 1.9.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

resource "terraform_data" "key" {
  input = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
}

resource "aws_s3_bucket" "team" {
  # checkov:skip=CKV_AWS_18: never made, only planned by a test
  # checkov:skip=CKV_AWS_21: never made, only planned by a test
  # checkov:skip=CKV_AWS_144: never made, only planned by a test
  # checkov:skip=CKV_AWS_145: never made, only planned by a test
  # checkov:skip=CKV2_AWS_6: never made, only planned by a test
  # checkov:skip=CKV2_AWS_61: never made, only planned by a test
  # checkov:skip=CKV2_AWS_62: never made, only planned by a test
  bucket = "team-data"
}

module "own_bucket" {
  source = "../.."

  kms_key_arn  = terraform_data.key.output
  tags         = { key = terraform_data.key.output }
  mappings_dir = "${path.module}/../config/mappings"
}

module "existing_bucket" {
  source = "../.."

  prefix          = "other"
  existing_bucket = aws_s3_bucket.team.bucket
  kms_key_arn     = terraform_data.key.output
  mappings_dir    = "${path.module}/../config/mappings"
}
