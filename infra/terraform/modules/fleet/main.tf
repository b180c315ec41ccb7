# The fleet: cluster, services, their permissions and their number. One file per concern, in this order:
#   registry, cluster, services, settings, environment, tasks, autoscaling, scaler, permissions, roles, policies, events.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  tags = merge({ application = "rowfleet", deployment = var.prefix }, var.tags)
}
