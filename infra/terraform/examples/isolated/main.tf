# Without the internet: the agent is a Lambda function, and all traffic stays inside AWS.

terraform {
  required_version = ">= 1.9.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {}

variable "image" {
  description = "Image with its tag, in ECR of this region."
  type        = string
}

variable "agent_function_arn" {
  description = "Lambda function that is the agent."
  type        = string
}

module "rowfleet" {
  source = "../.."

  image               = var.image
  network             = "isolated"
  interface_endpoints = ["lambda"]

  agent_policy_statements = [
    { actions = ["lambda:InvokeFunction"], resources = [var.agent_function_arn] },
  ]
}

output "bucket" {
  description = "Bucket; mappings go to its config/mappings/, CSV files to incoming/{mapping}/."
  value       = module.rowfleet.bucket
}
