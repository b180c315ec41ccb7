# rowfleet on AWS. A bucket notifies a queue of a CSV; a splitter sends its rows to workers; outcomes are counted
# in a table; an aggregator writes the result. One file per concern, in this order:
#   storage, config, queues, table, network, registry, iam, service, scaling, alarms, dashboard.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  tags = merge({ application = "rowfleet", deployment = var.prefix }, var.tags)
}
