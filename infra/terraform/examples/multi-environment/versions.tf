terraform {
  required_version = ">= 1.10.0" # a lock file in the bucket of the state

  backend "s3" {} # bucket and key come from environments/*.s3.tfbackend, the region from AWS_REGION

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}
