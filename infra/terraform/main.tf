# rowfleet on AWS. A bucket notifies a queue of a CSV; a splitter sends its rows to workers; outcomes are counted
# in a table; an aggregator writes the result. Four modules make it, and each can be left out (var.parts) where
# something else brings what it makes:
#   data           bucket, configuration, queues, table
#   network        VPC, subnets, endpoints, security groups
#   fleet          repository, cluster, services, their permissions, scaling
#   observability  alarms, their topic, dashboard

locals {
  # What this configuration makes, or what another one has made.
  data = contains(var.parts, "data") ? {
    bucket                    = module.data[0].bucket
    bucket_arn                = module.data[0].bucket_arn
    table                     = module.data[0].table
    table_arn                 = module.data[0].table_arn
    queue_arns                = module.data[0].queue_arns
    queue_urls                = module.data[0].queue_urls
    queue_names               = module.data[0].queue_names
    config_url                = module.data[0].config_url
    rows_visibility_timeout_s = module.data[0].rows_visibility_timeout_s
    max_message_bytes         = module.data[0].max_message_bytes
    max_receives              = module.data[0].max_receives
    ttl_days                  = module.data[0].ttl_days
    cli_environment           = module.data[0].cli_environment
  } : var.existing_data

  network = contains(var.parts, "network") ? {
    subnet_ids         = module.network[0].subnet_ids
    security_group_ids = module.network[0].security_group_ids
    assign_public_ip   = module.network[0].assign_public_ip
    } : {
    subnet_ids         = try(var.existing_vpc.subnet_ids, [])
    security_group_ids = var.security_group_ids
    assign_public_ip   = try(var.existing_vpc.assign_public_ip, false)
  }

  # What an isolated network reaches: what the tasks need themselves, where their secrets lie, what agents live in.
  # Keys and not ARNs decide, since the ARN of a secret that is made as well is not known when Terraform plans.
  endpoint_services = var.network != "isolated" ? [] : setunion(
    try(module.fleet[0].endpoint_services, []),
    length(var.agent_secrets) > 0 || var.events.webhook_url != null ? var.secret_stores : [],
    var.interface_endpoints,
  )
}

data "aws_region" "current" {}

module "data" {
  count  = contains(var.parts, "data") ? 1 : 0
  source = "./modules/data"

  prefix                    = var.prefix
  tags                      = var.tags
  bucket_name               = var.bucket_name
  existing_bucket           = var.existing_bucket
  table_name                = var.table_name
  table_throughput          = var.table_throughput
  point_in_time_recovery    = var.point_in_time_recovery
  kms_key_arn               = var.kms_key_arn
  ttl_days                  = var.ttl_days
  expire_days               = var.expire_days
  protect_data              = var.protect_data
  rows_visibility_timeout_s = var.rows_visibility_timeout_s
  max_receives              = var.max_receives
  max_message_bytes         = var.max_message_bytes
  mappings_dir              = var.mappings_dir
  schemas_dir               = var.schemas_dir
}

module "network" {
  count  = contains(var.parts, "network") ? 1 : 0
  source = "./modules/network"

  prefix             = var.prefix
  tags               = var.tags
  network            = var.network
  vpc_cidr           = var.vpc_cidr
  availability_zones = var.availability_zones
  existing_vpc       = var.existing_vpc
  security_group_ids = var.security_group_ids
  agent_ports        = var.agent_ports
  egress             = var.egress
  endpoint_services  = local.endpoint_services
  endpoint_policies  = var.endpoint_policies
}

module "fleet" {
  count  = contains(var.parts, "fleet") ? 1 : 0
  source = "./modules/fleet"

  prefix  = var.prefix
  tags    = var.tags
  data    = local.data
  network = local.network

  image                 = var.image
  repository            = merge(var.repository, { force_delete = var.repository.force_delete || !var.protect_data })
  image_repository_arns = var.image_repository_arns
  architecture          = var.architecture
  control               = var.control
  splitter              = var.splitter
  worker                = var.worker
  aggregator            = var.aggregator
  stop_timeout_s        = var.stop_timeout_s
  wait_for_steady_state = var.wait_for_steady_state
  settings              = var.settings
  scaling               = var.scaling
  scaler                = var.scaler

  agent_environment         = var.agent_environment
  agent_secrets             = var.agent_secrets
  agent_policy_statements   = var.agent_policy_statements
  policy_statements         = var.policy_statements
  mapping_policy_statements = var.mapping_policy_statements
  source_bucket_arns        = var.source_bucket_arns
  output_prefixes           = var.output_prefixes
  proxy                     = var.proxy

  kms_key_arn         = var.kms_key_arn
  secret_kms_key_arns = var.secret_kms_key_arns
  source_kms_key_arns = var.source_kms_key_arns
  cluster_arn         = var.cluster_arn
  create_cluster      = var.create_cluster
  iam                 = var.iam
  log_group_name      = var.log_group_name
  log_retention_days  = var.log_retention_days
  logs                = var.logs
  events              = var.events
  state_machine       = var.state_machine
}

module "observability" {
  count  = contains(var.parts, "observability") ? 1 : 0
  source = "./modules/observability"

  prefix                 = var.prefix
  tags                   = var.tags
  queue_names            = local.data.queue_names
  cluster                = module.fleet[0].cluster
  services               = module.fleet[0].services
  scaling                = var.scaling
  scaler_function        = module.fleet[0].scaler_function
  min_tasks              = var.worker.min_tasks
  alarms                 = var.alarms
  topic_arn              = var.topic_arn
  create_topic           = var.create_topic
  alarm_email            = var.alarm_email
  oldest_message_alarm_s = var.oldest_message_alarm_s
  not_running_minutes    = var.not_running_minutes
  throttled_minutes      = var.throttled_minutes
  dashboard              = var.dashboard
}
