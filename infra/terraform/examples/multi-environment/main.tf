# One configuration for several environments, each with a state of its own in the team's bucket.
#
#   terraform init -reconfigure -backend-config=environments/dev.s3.tfbackend
#   terraform apply -var-file=environments/dev.tfvars
#
# The same image goes from dev to prod: build it once, and let `image_repository_arns` name the repository of dev. If
# dev is in another account, the policy of its repository has to let prod pull (modules/fleet/README.md).

provider "aws" {
  default_tags {
    tags = { environment = var.environment }
  }
}

module "rowfleet" {
  source = "../.."

  prefix       = "rowfleet-${var.environment}"
  image        = var.image
  mappings_dir = "${path.root}/mappings"
  worker       = { max_tasks = var.max_tasks, spot_percent = var.spot_percent }
  protect_data = var.environment == "prod"
  alarm_email  = var.alarm_email

  image_repository_arns = var.image_repository_arns
  agent_environment     = { AGENT_URL = var.agent_url }
}
