# The smallest deployment: a VPC of its own, workers from zero, one mapping.
#
#   terraform init && terraform apply                     creates everything; nothing runs yet
#   docker push "$(terraform output -raw repository_url):0.5.0"
#   terraform apply -var image="$(terraform output -raw repository_url):0.5.0"

terraform {
  required_version = ">= 1.9.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {} # region and credentials come from AWS's standard variables or profile

variable "image" {
  description = "Image with its tag; null until one is pushed."
  type        = string
  default     = null
}

module "rowfleet" {
  source = "../.."

  image             = var.image
  mappings_dir      = "${path.root}/mappings"
  agent_environment = { AGENT_URL = "https://agent.example.com/" }
}

output "bucket" {
  description = "Bucket; drop CSV files into its incoming/{mapping}/."
  value       = module.rowfleet.bucket
}

output "repository_url" {
  description = "Push the image here."
  value       = module.rowfleet.repository_url
}

output "cli_environment" {
  description = "For the rowfleet command: eval \"$(terraform output -raw cli_environment)\"."
  value       = module.rowfleet.cli_environment
}
