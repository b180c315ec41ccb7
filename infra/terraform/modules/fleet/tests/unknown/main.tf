# The module as a root calls it that makes the queues, keys, roles, secrets and topics of it in the same apply.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "image" {
  type = string
}

# Its output stands for every ARN and id that AWS gives; a string that is unknown, and may be null for all that is known.
resource "terraform_data" "made" {
  input = timestamp()
}

locals {
  made   = terraform_data.made.output
  queues = { for name in ["ingest", "rows", "aggregate", "ingest-dlq", "rows-dlq", "aggregate-dlq"] : name => local.made }
}

module "fleet" {
  source = "../.."

  image = var.image
  data = {
    bucket                    = local.made
    bucket_arn                = local.made
    table                     = "rowfleet-results"
    table_arn                 = local.made
    queue_arns                = local.queues
    queue_urls                = local.queues
    config_url                = "s3://${local.made}/config"
    rows_visibility_timeout_s = 60
    max_message_bytes         = 262144
    max_receives              = 5
    ttl_days                  = 7
  }
  network = {
    subnet_ids         = [local.made]
    security_group_ids = [local.made]
    assign_public_ip   = false
  }

  repository          = { create = false, arn = local.made, credentials_secret_arn = local.made }
  agent_secrets       = { TOKEN = local.made }
  kms_key_arn         = local.made
  secret_kms_key_arns = [local.made]
  source_kms_key_arns = [local.made]
  source_bucket_arns  = [local.made]
  policy_statements   = { worker = [{ actions = ["s3:GetObject"], resources = [local.made] }] }
  cluster_arn         = local.made
  create_cluster      = false
  log_group_name      = "mine"
  state_machine       = false
  events              = { topic_arn = local.made, webhook_url = "https://example.com/hook", webhook_secret_arn = local.made, endpoints = ["sns"] }
  iam = {
    permissions_boundary_arn = local.made
    execution_role_arn       = local.made
    create_execution_role    = false
    scaler_role_arn          = local.made
    create_scaler_role       = false
    task_role_arns           = { control = local.made }
    managed_policy_arns      = { worker = [local.made] }
  }
}

output "endpoint_services" {
  value = module.fleet.endpoint_services
}

output "services" {
  value = toset(keys(module.fleet.services))
}
