# The network of the tasks. In every mode tasks only open connections and accept none.

locals {
  own_vpc        = var.network != "existing"
  private        = contains(["nat", "isolated"], var.network)
  zones          = local.own_vpc ? slice(sort(data.aws_availability_zones.available[0].names), 0, 2) : []
  public_subnets = contains(["public", "nat"], var.network) ? { for i, zone in local.zones : zone => i } : {}
  hidden_subnets = local.private ? { for i, zone in local.zones : zone => i + 8 } : {}

  vpc_id           = local.own_vpc ? aws_vpc.own[0].id : var.existing_vpc.vpc_id
  assign_public_ip = local.own_vpc ? var.network == "public" : var.existing_vpc.assign_public_ip
  task_subnet_ids = (
    !local.own_vpc ? var.existing_vpc.subnet_ids :
    local.private ? values(aws_subnet.private)[*].id : values(aws_subnet.public)[*].id
  )

  # First the services that a task needs to start, then those for its secrets and agents.
  endpoint_services = var.network != "isolated" ? toset([]) : setunion(
    ["sqs", "ecr.api", "ecr.dkr", "logs"],
    [for arn in values(var.agent_secrets) : split(":", arn)[2]],
    local.event_endpoints,
    var.interface_endpoints,
  )
}

data "aws_availability_zones" "available" {
  # checkov:skip=CKV_AWS_394: two zones by sorted name; AWS gives new zones later letters, so the first two stay
  count = local.own_vpc ? 1 : 0
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "own" {
  # checkov:skip=CKV2_AWS_11: flow logs cost by the gigabyte and say nothing on a network that nothing can enter; an account that wants them switches them on for all
  count                = local.own_vpc ? 1 : 0
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.prefix })
}

# No rules: a resource that names no security group gets no access from the default one.
resource "aws_default_security_group" "own" {
  count  = local.own_vpc ? 1 : 0
  vpc_id = aws_vpc.own[0].id
  tags   = merge(local.tags, { Name = "${var.prefix}-unused" })
}

# -- public: subnets with a way out, for tasks (public) or for the NAT gateway (nat) -----------------------

resource "aws_internet_gateway" "own" {
  count  = length(local.public_subnets) > 0 ? 1 : 0
  vpc_id = aws_vpc.own[0].id
  tags   = merge(local.tags, { Name = var.prefix })
}

resource "aws_subnet" "public" {
  for_each          = local.public_subnets
  vpc_id            = aws_vpc.own[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.value)
  tags              = merge(local.tags, { Name = "${var.prefix}-public-${each.key}" })
}

resource "aws_route_table" "public" {
  count  = length(local.public_subnets) > 0 ? 1 : 0
  vpc_id = aws_vpc.own[0].id
  tags   = merge(local.tags, { Name = "${var.prefix}-public" })
}

resource "aws_route" "internet" {
  count                  = length(local.public_subnets) > 0 ? 1 : 0
  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.own[0].id
}

resource "aws_route_table_association" "public" {
  for_each       = aws_subnet.public
  subnet_id      = each.value.id
  route_table_id = aws_route_table.public[0].id
}

# -- private: behind a NAT gateway, or without any way to the internet --------------------------------------

resource "aws_subnet" "private" {
  for_each          = local.hidden_subnets
  vpc_id            = aws_vpc.own[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.value)
  tags              = merge(local.tags, { Name = "${var.prefix}-private-${each.key}" })
}

resource "aws_route_table" "private" {
  count  = local.private ? 1 : 0
  vpc_id = aws_vpc.own[0].id
  tags   = merge(local.tags, { Name = "${var.prefix}-private" })
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[0].id
}

# One gateway instead of one per zone saves half the cost. If its zone fails, rows wait in their queue.
resource "aws_eip" "nat" {
  count  = var.network == "nat" ? 1 : 0
  domain = "vpc"
  tags   = merge(local.tags, { Name = var.prefix })
}

resource "aws_nat_gateway" "own" {
  count         = var.network == "nat" ? 1 : 0
  allocation_id = aws_eip.nat[0].id
  subnet_id     = values(aws_subnet.public)[0].id
  tags          = merge(local.tags, { Name = var.prefix })

  depends_on = [aws_internet_gateway.own]
}

resource "aws_route" "nat" {
  count                  = var.network == "nat" ? 1 : 0
  route_table_id         = aws_route_table.private[0].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.own[0].id
}

# -- endpoints of AWS inside the VPC -----------------------------------------------------------------------

# Gateway endpoints are free. They keep the traffic to S3 and DynamoDB off the internet and off the NAT gateway's
# bill.
resource "aws_vpc_endpoint" "gateway" {
  for_each          = local.own_vpc ? toset(["s3", "dynamodb"]) : []
  vpc_id            = aws_vpc.own[0].id
  service_name      = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = concat(aws_route_table.public[*].id, aws_route_table.private[*].id)
  tags              = merge(local.tags, { Name = "${var.prefix}-${each.key}" })
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = local.endpoint_services
  vpc_id              = aws_vpc.own[0].id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = values(aws_subnet.private)[*].id
  security_group_ids  = aws_security_group.endpoints[*].id
  private_dns_enabled = true
  tags                = merge(local.tags, { Name = "${var.prefix}-${each.key}" })
}

resource "aws_security_group" "endpoints" {
  count       = var.network == "isolated" ? 1 : 0
  name        = "${var.prefix}-endpoints"
  description = "AWS inside the VPC: HTTPS from rowfleet's tasks"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.prefix}-endpoints" })
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count                        = var.network == "isolated" ? 1 : 0
  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "HTTPS from the tasks"
  referenced_security_group_id = aws_security_group.tasks.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = local.tags
}

# -- tasks ----------------------------------------------------------------------------------------------

resource "aws_security_group" "tasks" {
  # checkov:skip=CKV2_AWS_5: it is attached, through the services' network_configuration
  name        = "${var.prefix}-tasks"
  description = "rowfleet's tasks: nothing comes in"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.prefix}-tasks" })
}

resource "aws_vpc_security_group_egress_rule" "tasks" {
  for_each          = toset([for port in setunion([443], var.agent_ports) : tostring(port)])
  security_group_id = aws_security_group.tasks.id
  description       = each.key == "443" ? "HTTPS to AWS and to agents" : "agents"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.key)
  to_port           = tonumber(each.key)
  tags              = local.tags
}
