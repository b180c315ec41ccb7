# Who tells operators that something is wrong, and one page of metrics. Files in this order:
#   main, topic, alarms, tasks, dashboard.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  tags = merge({ application = "rowfleet", deployment = var.prefix }, var.tags)

  # Values of the metrics' dimension `role`, of all services and of those that play a role.
  all_metric_roles = sort(distinct(values(var.services)[*].metric_role))
  metric_roles = {
    for role in ["splitter", "worker", "aggregator", "sweeper"] : role => sort(distinct([
      for service in values(var.services) : service.metric_role if contains(service.roles, role)
    ]))
  }
}
