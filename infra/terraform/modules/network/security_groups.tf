# What tasks may connect to, and what endpoints let in. Both groups keep their names, which only differ by VPC.

locals {
  creates_group = length(var.security_group_ids) == 0
  task_groups   = local.creates_group ? aws_security_group.tasks[*].id : var.security_group_ids

  is_open = contains(var.egress.cidr_blocks, "0.0.0.0/0")

  # Prefix lists by number: their ids may not be known yet. The first range of all needs no name.
  targets = merge(
    { for range in var.egress.cidr_blocks : (range == "0.0.0.0/0" ? "" : "-${range}") => { range = range } },
    { for range in var.egress.ipv6_cidr_blocks : "-${range}" => { ipv6_range = range } },
    { for i, id in var.egress.prefix_list_ids : "-prefix-list-${i}" => { prefix_list = id } },
  )
  ports = merge(
    { for port in setunion([443], var.agent_ports) : tostring(port) => { protocol = "tcp", port = port } },
    var.egress.dns ? { "53" = { protocol = "tcp", port = 53 }, "53-udp" = { protocol = "udp", port = 53 } } : {},
  )
  egress_rules = merge(
    merge([for port_name, port in local.ports : { for name, target in local.targets : "${port_name}${name}" => merge(port, target) }]...),
    # What is in a VPC of this module is open in any case.
    {
      for name in ["s3", "dynamodb"] : "443-${name}" => { protocol = "tcp", port = 443, prefix_list = try(aws_vpc_endpoint.gateway[name].prefix_list_id, null) }
      if local.own_vpc && !local.is_open
    },
    {
      for name in ["endpoints"] : "443-${name}" => { protocol = "tcp", port = 443, group = try(aws_security_group.endpoints[0].id, null) }
      if var.network == "isolated" && !local.is_open
    },
  )
}

resource "aws_security_group" "tasks" {
  # checkov:skip=CKV2_AWS_5: it is attached, through the services' network_configuration
  count       = local.creates_group ? 1 : 0
  name        = "${var.prefix}-tasks"
  description = "rowfleet's tasks: nothing comes in"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.prefix}-tasks" })

  timeouts {
    delete = local.drain_timeout
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "tasks" {
  for_each                     = local.creates_group ? local.egress_rules : {}
  security_group_id            = aws_security_group.tasks[0].id
  description                  = each.value.port == 443 ? "HTTPS to AWS and to agents" : each.value.port == 53 ? "DNS" : "agents"
  cidr_ipv4                    = try(each.value.range, null)
  cidr_ipv6                    = try(each.value.ipv6_range, null)
  prefix_list_id               = try(each.value.prefix_list, null)
  referenced_security_group_id = try(each.value.group, null)
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
  tags                         = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "endpoints" {
  count       = var.network == "isolated" ? 1 : 0
  name        = "${var.prefix}-endpoints"
  description = "AWS inside the VPC: HTTPS from rowfleet's tasks"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${var.prefix}-endpoints" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count                        = var.network == "isolated" ? length(local.task_groups) : 0
  security_group_id            = aws_security_group.endpoints[0].id
  description                  = "HTTPS from the tasks"
  referenced_security_group_id = local.task_groups[count.index]
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = local.tags

  lifecycle {
    create_before_destroy = true
  }
}
