# Names and ARNs of resources of the same configuration, which are not known before the first apply.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

resource "terraform_data" "team" {
  for_each = { topic = "arn:aws:sns:eu-central-1:123456789012:ops", scaler = "rowfleet-scaler", cluster = "rowfleet" }
  input    = each.value
}

module "observability" {
  source = "../.."

  prefix          = "rowfleet"
  queue_names     = { ingest = "rowfleet-ingest", rows = "rowfleet-rows", aggregate = "rowfleet-aggregate" }
  cluster         = terraform_data.team["cluster"].output
  services        = { worker = { roles = ["worker"], metric_role = "worker" } }
  scaler_function = terraform_data.team["scaler"].output
  topic_arn       = terraform_data.team["topic"].output
  create_topic    = false
}
