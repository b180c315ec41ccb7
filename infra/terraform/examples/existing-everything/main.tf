# In an account of a platform team: VPC, security groups, cluster, repository, bucket, keys, topic and log group are
# there already; roles get the team's permissions boundary and path; the way out is the company's proxy.

provider "aws" {
  default_tags {
    tags = { cost-centre = "research" }
  }
}

module "rowfleet" {
  source = "../.."

  prefix = "research"
  image  = var.image

  network            = "existing"
  existing_vpc       = { vpc_id = var.vpc_id, subnet_ids = var.subnet_ids }
  security_group_ids = var.security_group_ids
  proxy              = { url = var.proxy_url, no_proxy = [".internal.example.com"] }

  existing_bucket = var.bucket # sends its events to EventBridge
  cluster_arn     = var.cluster_arn
  log_group_name  = var.log_group_name
  topic_arn       = var.topic_arn
  repository      = { create = false, arn = var.repository_arn }

  kms_key_arn         = var.kms_key_arn
  secret_kms_key_arns = [var.secret_kms_key_arn]

  iam = { path = "/research/", permissions_boundary_arn = var.permissions_boundary_arn }

  worker   = { cpu = 1024, memory = 2048, max_tasks = 50, backlog_per_task = 1000, on_demand_base = 1 }
  settings = { WORKER__MAX_INFLIGHT_ROWS = "200", WORKER__MAX_HELD_ROWS = "2000" }

  mappings_dir      = "${path.root}/mappings"
  agent_environment = { AGENT_URL = "https://agent.internal.example.com/" }
  agent_secrets     = { AGENT_TOKEN = var.agent_token_arn }
}
