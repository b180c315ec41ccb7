# The four networks: their routes to the outside, no inbound access, and what tasks may connect to.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  prefix = "rowfleet"
}

run "public_costs_nothing_at_rest" {
  assert {
    condition     = length(aws_nat_gateway.own) == 0 && length(aws_vpc_endpoint.interface) == 0 && toset(keys(aws_vpc_endpoint.gateway)) == toset(["s3", "dynamodb"])
    error_message = "the default network costs by the hour, or has no gateway endpoints"
  }

  assert {
    condition     = output.assign_public_ip && toset(output.subnet_ids) == toset([for subnet in aws_subnet.public : subnet.id]) && length(aws_subnet.private) == 0
    error_message = "tasks in public subnets have no address to call out from"
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch != true])
    error_message = "other resources in the subnets get a public address"
  }

  # These are the addresses of deployments that exist.
  assert {
    condition     = { for zone, subnet in aws_subnet.public : zone => subnet.cidr_block } == { eu-central-1a = "10.60.0.0/20", eu-central-1b = "10.60.16.0/20" }
    error_message = "the first two zones by name have other addresses"
  }

  assert {
    condition     = output.availability_zones == tolist(["eu-central-1a", "eu-central-1b"]) && output.nat_public_ip == null && output.route_table_ids == aws_route_table.public[*].id
    error_message = "the outputs do not describe the network"
  }
}

run "tasks_only_call_out" {
  assert {
    condition = { for name, rule in aws_vpc_security_group_egress_rule.tasks : name => [rule.cidr_ipv4, rule.ip_protocol, rule.from_port, rule.to_port] } == {
      "443"    = ["0.0.0.0/0", "tcp", 443, 443]
      "53"     = ["0.0.0.0/0", "tcp", 53, 53]
      "53-udp" = ["0.0.0.0/0", "udp", 53, 53]
    }
    error_message = "by default tasks do more than HTTPS and DNS, or less"
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.endpoints) == 0 && output.security_group_ids == tolist(aws_security_group.tasks[*].id) && output.security_group_id == aws_security_group.tasks[0].id
    error_message = "something comes in, or the group is no output"
  }
}

run "ranges_and_prefix_lists_bound_the_way_out" {
  variables {
    agent_ports = [8080]
    egress      = { cidr_blocks = ["10.0.0.0/8"], ipv6_cidr_blocks = ["2001:db8::/32"], prefix_list_ids = ["pl-0abc"], dns = false }
  }

  assert {
    condition = toset(keys(aws_vpc_security_group_egress_rule.tasks)) == toset([
      "443-10.0.0.0/8", "443-2001:db8::/32", "443-prefix-list-0", "443-s3", "443-dynamodb",
      "8080-10.0.0.0/8", "8080-2001:db8::/32", "8080-prefix-list-0",
    ])
    error_message = "tasks may connect elsewhere, or not to the endpoints of their VPC"
  }

  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_egress_rule.tasks : length(compact([rule.cidr_ipv4, rule.cidr_ipv6, rule.prefix_list_id, rule.referenced_security_group_id])) == 1])
    error_message = "a rule has not exactly one target"
  }

  assert {
    condition     = aws_vpc_security_group_egress_rule.tasks["443-s3"].prefix_list_id == aws_vpc_endpoint.gateway["s3"].prefix_list_id && aws_vpc_security_group_egress_rule.tasks["8080-prefix-list-0"].prefix_list_id == "pl-0abc"
    error_message = "a rule names another prefix list"
  }
}

run "nat_hides_tasks" {
  variables {
    network = "nat"
  }

  assert {
    condition     = length(aws_nat_gateway.own) == 1 && length(aws_route.nat) == 1 && !output.assign_public_ip && output.nat_public_ip == aws_eip.nat[0].public_ip
    error_message = "tasks are not behind the NAT gateway"
  }

  assert {
    condition     = toset(output.subnet_ids) == toset([for subnet in aws_subnet.private : subnet.id]) && aws_nat_gateway.own[0].subnet_id == aws_subnet.public["eu-central-1a"].id
    error_message = "tasks are not in the private subnets, or the gateway is"
  }
}

run "zones_are_chosen" {
  variables {
    network            = "nat"
    availability_zones = ["eu-central-1c", "eu-central-1a"]
  }

  assert {
    condition     = { for zone, subnet in aws_subnet.private : zone => subnet.cidr_block } == { eu-central-1a = "10.60.128.0/20", eu-central-1c = "10.60.160.0/20" }
    error_message = "the addresses of a zone depend on the other zones, so that a change of zones would replace them"
  }
}

run "isolated_has_no_internet" {
  variables {
    network           = "isolated"
    endpoint_services = ["sqs", "ecr.api", "ecr.dkr", "logs", "ecs", "bedrock-agentcore"]
    egress            = { cidr_blocks = [] }
  }

  assert {
    condition     = length(aws_internet_gateway.own) == 0 && length(aws_nat_gateway.own) == 0 && length(aws_subnet.public) == 0
    error_message = "there is a way to the internet"
  }

  assert {
    condition     = toset(keys(output.endpoint_ids)) == setunion(var.endpoint_services, ["s3", "dynamodb"])
    error_message = "tasks cannot reach the services they need"
  }

  assert {
    condition     = one(aws_vpc_security_group_ingress_rule.endpoints).referenced_security_group_id == aws_security_group.tasks[0].id
    error_message = "the endpoints let others in than the tasks"
  }

  assert {
    condition     = toset(keys(aws_vpc_security_group_egress_rule.tasks)) == toset(["443-endpoints", "443-s3", "443-dynamodb"]) && aws_vpc_security_group_egress_rule.tasks["443-endpoints"].referenced_security_group_id == aws_security_group.endpoints[0].id
    error_message = "tasks may connect to more than the endpoints of their VPC, or to less"
  }

  assert {
    condition = alltrue([
      for name, endpoint in merge(aws_vpc_endpoint.gateway, aws_vpc_endpoint.interface) :
      jsondecode(endpoint.policy).Statement[0].Condition == { (name == "bedrock-agentcore" ? "StringEqualsIfExists" : "StringEquals") = { "aws:PrincipalAccount" = "123456789012" } }
    ])
    error_message = "an endpoint serves principals of other accounts"
  }

  assert {
    condition = [for statement in jsondecode(aws_vpc_endpoint.gateway["s3"].policy).Statement : [statement.Action, statement.Resource] if !can(statement.Condition)] == [
      ["s3:GetObject", "arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/*"]
    ]
    error_message = "tasks cannot pull their image, or others may use the endpoint for more"
  }
}

run "endpoints_have_the_policies_that_are_given" {
  variables {
    network           = "isolated"
    endpoint_services = ["sqs", "lambda"]
    endpoint_policies = { lambda = "{\"Statement\": [\"mine\"]}" }
  }

  assert {
    condition     = aws_vpc_endpoint.interface["lambda"].policy == var.endpoint_policies.lambda && aws_vpc_endpoint.interface["sqs"].policy != var.endpoint_policies.lambda
    error_message = "an endpoint has another policy"
  }
}

run "groups_of_the_team_are_used" {
  variables {
    network            = "isolated"
    endpoint_services  = ["sqs"]
    security_group_ids = ["sg-0abc", "sg-0def"]
  }

  assert {
    condition     = length(aws_security_group.tasks) + length(aws_vpc_security_group_egress_rule.tasks) == 0 && output.security_group_ids == tolist(["sg-0abc", "sg-0def"]) && output.security_group_id == null
    error_message = "a group is made beside those that are named"
  }

  assert {
    condition     = toset(aws_vpc_security_group_ingress_rule.endpoints[*].referenced_security_group_id) == toset(["sg-0abc", "sg-0def"])
    error_message = "the endpoints do not let the team's groups in"
  }
}

run "existing_makes_no_network" {
  variables {
    network           = "existing"
    existing_vpc      = { vpc_id = "vpc-0abc", subnet_ids = ["subnet-0abc", "subnet-0def"] }
    endpoint_services = ["sqs"]
  }

  assert {
    condition     = length(aws_vpc.own) == 0 && length(aws_subnet.public) + length(aws_subnet.private) == 0 && length(output.endpoint_ids) == 0
    error_message = "something is made in a VPC that is not ours"
  }

  assert {
    condition     = output.subnet_ids == tolist(["subnet-0abc", "subnet-0def"]) && aws_security_group.tasks[0].vpc_id == "vpc-0abc" && output.vpc_id == "vpc-0abc" && !output.assign_public_ip
    error_message = "tasks do not run in the subnets that were named"
  }
}
