# Where rowfleet keeps data: a bucket, three queues with their dead-letter queues, a table, and the configuration.
# One file per concern: storage, incoming, config, queues, table.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  tags = merge({ application = "rowfleet", deployment = var.prefix }, var.tags)
}
