# The network of the tasks. In every mode tasks only open connections and accept none. Files in this order:
#   main, vpc, endpoints, security_groups.
#
# A change of the network must not wait for itself: AWS removes no subnet, gateway or security group that a task uses,
# and ECS moves its tasks only once the new ones exist. Therefore everything is created before its predecessor is
# destroyed, and the outputs that services use depend on all that their tasks need: so the services move in between.
# Names are unique in a VPC only, so a security group in another VPC may have the name of its predecessor.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

data "aws_availability_zones" "available" {
  # checkov:skip=CKV_AWS_394: zones by sorted name; AWS gives new zones later letters, so the first ones stay
  count = local.own_vpc ? 1 : 0
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.id

  tags = merge({ application = "rowfleet", deployment = var.prefix }, var.tags)

  own_vpc = var.network != "existing"
  private = contains(["nat", "isolated"], var.network)

  zones_of_region = local.own_vpc ? sort(data.aws_availability_zones.available[0].names) : []
  zones = (
    !local.own_vpc ? [] :
    length(var.availability_zones) > 0 ? sort(var.availability_zones) : slice(local.zones_of_region, 0, 2)
  )

  # A zone has the same addresses whichever other zones are used. Of 16 ranges the first eight are public.
  zone_numbers   = { for zone in local.zones : zone => try(index(local.zones_of_region, zone), 0) }
  public_subnets = contains(["public", "nat"], var.network) ? local.zone_numbers : {}
  hidden_subnets = local.private ? { for zone, number in local.zone_numbers : zone => number + 8 } : {}

  vpc_id           = local.own_vpc ? aws_vpc.own[0].id : var.existing_vpc.vpc_id
  assign_public_ip = local.own_vpc ? var.network == "public" : var.existing_vpc.assign_public_ip
  task_subnet_ids = (
    !local.own_vpc ? var.existing_vpc.subnet_ids :
    local.private ? values(aws_subnet.private)[*].id : values(aws_subnet.public)[*].id
  )

  # Tasks of the old network drain for minutes, and protected ones for up to an hour.
  drain_timeout = "75m"
}
