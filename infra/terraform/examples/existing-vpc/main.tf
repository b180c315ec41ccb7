# In your own VPC, with a secret for the agent, a bigger fleet, a KMS key and alarms by mail.

terraform {
  required_version = ">= 1.9.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  default_tags {
    tags = { cost-centre = "research" }
  }
}

variable "image" {
  description = "Image with its tag, from any registry that the subnets reach."
  type        = string
}

variable "vpc_id" {
  description = "Your VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets with a route to AWS and to the agent."
  type        = list(string)
}

variable "agent_token_arn" {
  description = "Secrets Manager secret with the agent's token."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts bucket, table, logs and the secret."
  type        = string
}

module "rowfleet" {
  source = "../.."

  prefix       = "research"
  image        = var.image
  architecture = "ARM64"

  network      = "existing"
  existing_vpc = { vpc_id = var.vpc_id, subnet_ids = var.subnet_ids }

  worker   = { cpu = 1024, memory = 2048, max_tasks = 50, backlog_per_task = 1000 }
  settings = { WORKER__MAX_INFLIGHT_ROWS = "200", WORKER__MAX_HELD_ROWS = "2000" }

  mappings_dir      = "${path.root}/mappings"
  agent_environment = { AGENT_URL = "https://agent.internal.example.com/" }
  agent_secrets     = { AGENT_TOKEN = var.agent_token_arn }

  kms_key_arn = var.kms_key_arn
  alarm_email = "on-call@example.com"
}

output "bucket" {
  description = "Bucket; drop CSV files into its incoming/{mapping}/."
  value       = module.rowfleet.bucket
}
