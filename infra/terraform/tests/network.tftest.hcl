# The four networks: their routes to the outside, and no inbound access.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image = "registry.example/rowfleet:0.5.0"
}

run "public_costs_nothing_at_rest" {
  assert {
    condition     = length(aws_nat_gateway.own) == 0 && length(aws_vpc_endpoint.interface) == 0 && toset(keys(aws_vpc_endpoint.gateway)) == toset(["s3", "dynamodb"])
    error_message = "the default network costs by the hour, or has no gateway endpoints"
  }

  assert {
    condition     = one(aws_ecs_service.fixed["splitter"].network_configuration).assign_public_ip && length(aws_subnet.public) == 2
    error_message = "tasks in public subnets have no address to call out from"
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch != true])
    error_message = "other resources in the subnets get a public address"
  }
}

run "nat_hides_tasks" {
  variables {
    network = "nat"
  }

  assert {
    condition     = length(aws_nat_gateway.own) == 1 && length(aws_route.nat) == 1 && !one(aws_ecs_service.fixed["splitter"].network_configuration).assign_public_ip
    error_message = "tasks are not behind the NAT gateway"
  }

  assert {
    condition     = toset(one(aws_ecs_service.fixed["splitter"].network_configuration).subnets) == toset([for subnet in aws_subnet.private : subnet.id])
    error_message = "tasks are not in the private subnets"
  }
}

run "isolated_has_no_internet" {
  variables {
    network             = "isolated"
    interface_endpoints = ["lambda"]
    agent_secrets       = { TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token-AbCdEf" }
  }

  assert {
    condition     = length(aws_internet_gateway.own) == 0 && length(aws_nat_gateway.own) == 0 && length(aws_subnet.public) == 0
    error_message = "there is a way to the internet"
  }

  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["sqs", "ecr.api", "ecr.dkr", "logs", "secretsmanager", "lambda"])
    error_message = "tasks cannot reach the services they need"
  }

  assert {
    condition     = one(aws_vpc_security_group_ingress_rule.endpoints).referenced_security_group_id == aws_security_group.tasks.id
    error_message = "the endpoints let others in than the tasks"
  }
}

run "existing_makes_no_network" {
  variables {
    network      = "existing"
    existing_vpc = { vpc_id = "vpc-0abc", subnet_ids = ["subnet-0abc", "subnet-0def"] }
  }

  assert {
    condition     = length(aws_vpc.own) == 0 && length(aws_subnet.public) + length(aws_subnet.private) == 0 && length(aws_vpc_endpoint.gateway) == 0
    error_message = "something is made in a VPC that is not ours"
  }

  assert {
    condition     = toset(one(aws_ecs_service.fixed["splitter"].network_configuration).subnets) == toset(["subnet-0abc", "subnet-0def"]) && aws_security_group.tasks.vpc_id == "vpc-0abc"
    error_message = "tasks do not run in the subnets that were named"
  }
}
