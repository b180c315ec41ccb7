# The VPC, its subnets and their way out. See main.tf for `create_before_destroy`.

resource "aws_vpc" "own" {
  # checkov:skip=CKV2_AWS_11: flow logs cost by the gigabyte and say nothing on a network that nothing can enter; an account that wants them switches them on for all
  count                = local.own_vpc ? 1 : 0
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.prefix })

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = length(setsubtract(local.zones, local.zones_of_region)) == 0
      error_message = "availability_zones names a zone that this account does not have in this region; it has ${join(", ", local.zones_of_region)}."
    }
  }
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

  timeouts {
    delete = local.drain_timeout
  }

  lifecycle {
    create_before_destroy = true
    replace_triggered_by  = [aws_vpc.own[0].id] # it would be detached from a VPC whose tasks use it
  }
}

resource "aws_subnet" "public" {
  for_each          = local.public_subnets
  vpc_id            = aws_vpc.own[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.value)
  tags              = merge(local.tags, { Name = "${var.prefix}-public-${each.key}" })

  timeouts {
    delete = local.drain_timeout
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route_table" "public" {
  count  = length(local.public_subnets) > 0 ? 1 : 0
  vpc_id = aws_vpc.own[0].id
  tags   = merge(local.tags, { Name = "${var.prefix}-public" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route" "internet" {
  count                  = length(local.public_subnets) > 0 ? 1 : 0
  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.own[0].id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route_table_association" "public" {
  for_each       = aws_subnet.public
  subnet_id      = each.value.id
  route_table_id = aws_route_table.public[0].id

  lifecycle {
    create_before_destroy = true
  }
}

# -- private: behind a NAT gateway, or without any way to the internet --------------------------------------

resource "aws_subnet" "private" {
  for_each          = local.hidden_subnets
  vpc_id            = aws_vpc.own[0].id
  availability_zone = each.key
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, each.value)
  tags              = merge(local.tags, { Name = "${var.prefix}-private-${each.key}" })

  timeouts {
    delete = local.drain_timeout
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route_table" "private" {
  count  = local.private ? 1 : 0
  vpc_id = aws_vpc.own[0].id
  tags   = merge(local.tags, { Name = "${var.prefix}-private" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route_table_association" "private" {
  for_each       = aws_subnet.private
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[0].id

  lifecycle {
    create_before_destroy = true
  }
}

# One gateway instead of one per zone saves half the cost. If its zone fails, rows wait in their queue.
resource "terraform_data" "nat_place" {
  count            = var.network == "nat" ? 1 : 0
  triggers_replace = [var.vpc_cidr, local.zones[0]]
}

resource "aws_eip" "nat" {
  count  = var.network == "nat" ? 1 : 0
  domain = "vpc"
  tags   = merge(local.tags, { Name = var.prefix })

  lifecycle {
    create_before_destroy = true
    replace_triggered_by  = [terraform_data.nat_place[0]] # two gateways cannot have one address
  }
}

resource "aws_nat_gateway" "own" {
  count         = var.network == "nat" ? 1 : 0
  allocation_id = aws_eip.nat[0].id
  subnet_id     = aws_subnet.public[local.zones[0]].id
  tags          = merge(local.tags, { Name = var.prefix })

  depends_on = [aws_internet_gateway.own]

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route" "nat" {
  count                  = var.network == "nat" ? 1 : 0
  route_table_id         = aws_route_table.private[0].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.own[0].id

  lifecycle {
    create_before_destroy = true
  }
}
