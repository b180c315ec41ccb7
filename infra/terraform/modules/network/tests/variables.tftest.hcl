# Every variable refuses wrong values at plan time and accepts right ones. A run lists all variables that must fail.
# Terraform skips a validation that refers to an invalid variable; those have runs of their own.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  prefix = "rowfleet"
}

run "defaults_are_good" {
  command = plan
}

run "first_bad_value_of_each" {
  command = plan

  variables {
    prefix             = "Rowfleet"
    tags               = { "aws:owner" = "me" }
    vpc_cidr           = "10.0.0.0/8"
    availability_zones = ["eu-central-1a"]
    existing_vpc       = { vpc_id = "vpc-0abc", subnet_ids = ["subnet-0abc"] }
    agent_ports        = [443]
    endpoint_services  = ["Lambda"]
  }

  expect_failures = [
    var.prefix, var.tags, var.vpc_cidr, var.availability_zones, var.existing_vpc, var.agent_ports, var.endpoint_services,
  ]
}

run "second_bad_value_of_each" {
  command = plan

  variables {
    prefix             = "a-name-that-is-too-long-for-it"
    network            = "private"
    vpc_cidr           = "10.60.0.0/24"
    availability_zones = ["eu-central-1a", "euc1-az2"]
    security_group_ids = ["tasks"]
    endpoint_services  = ["sqs", "s3"]
  }

  expect_failures = [
    var.prefix, var.network, var.vpc_cidr, var.availability_zones, var.security_group_ids, var.endpoint_services,
  ]
}

run "third_bad_value_of_each" {
  command = plan

  variables {
    prefix             = "ends-with-"
    network            = "existing"
    vpc_cidr           = "not a range"
    availability_zones = ["eu-central-1a", "eu-central-1a"]
    security_group_ids = ["sg-1", "sg-2", "sg-3", "sg-4", "sg-5", "sg-6"]
    endpoint_policies  = { sqs = "{\"Statement\": []}" }
  }

  expect_failures = [
    var.prefix, var.existing_vpc, var.vpc_cidr, var.availability_zones, var.security_group_ids, var.endpoint_policies,
  ]
}

run "port_zero" {
  command = plan

  variables {
    agent_ports = [0]
  }

  expect_failures = [var.agent_ports]
}

run "address_without_a_range" {
  command = plan

  variables {
    egress = { cidr_blocks = ["10.0.0.0"] }
  }

  expect_failures = [var.egress]
}

run "existing_vpc_without_an_id" {
  command = plan

  variables {
    network      = "existing"
    existing_vpc = { vpc_id = "my-vpc", subnet_ids = ["subnet-0abc"] }
  }

  expect_failures = [var.existing_vpc]
}

run "existing_vpc_without_subnets" {
  command = plan

  variables {
    network      = "existing"
    existing_vpc = { vpc_id = "vpc-0abc", subnet_ids = [] }
  }

  expect_failures = [var.existing_vpc]
}

run "existing_vpc_with_subnets_by_name" {
  command = plan

  variables {
    network      = "existing"
    existing_vpc = { vpc_id = "vpc-0abc", subnet_ids = ["private-a"] }
  }

  expect_failures = [var.existing_vpc]
}

run "zone_that_is_not_there" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a", "eu-central-1f"]
  }

  expect_failures = [aws_vpc.own]
}

run "seven_zones" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c", "eu-central-1d", "eu-central-1e", "eu-central-1f", "eu-central-1g"]
  }

  expect_failures = [var.availability_zones]
}

run "ports_of_a_group_that_is_not_ours" {
  command = plan

  variables {
    security_group_ids = ["sg-0abc"]
    agent_ports        = [8080]
  }

  expect_failures = [var.agent_ports]
}

run "addresses_of_a_group_that_is_not_ours" {
  command = plan

  variables {
    security_group_ids = ["sg-0abc"]
    egress             = { cidr_blocks = ["10.0.0.0/8"] }
  }

  expect_failures = [var.egress]
}

run "no_address" {
  command = plan

  variables {
    egress = { cidr_blocks = [] }
  }

  expect_failures = [var.egress]
}

run "ipv6_that_is_ipv4" {
  command = plan

  variables {
    egress = { ipv6_cidr_blocks = ["10.0.0.0/8"] }
  }

  expect_failures = [var.egress]
}

run "prefix_list_by_name" {
  command = plan

  variables {
    egress = { prefix_list_ids = ["com.amazonaws.s3"] }
  }

  expect_failures = [var.egress]
}

run "more_rules_than_a_group_takes" {
  command = plan

  variables {
    agent_ports = [8080, 8081]
    egress      = { cidr_blocks = ["10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/16", "10.10.0.0/16"] }
  }

  expect_failures = [var.egress]
}

run "policy_that_is_no_document" {
  command = plan

  variables {
    endpoint_policies = { s3 = "deny everything" }
  }

  expect_failures = [var.endpoint_policies]
}

run "good_values_of_each" {
  command = plan

  variables {
    prefix             = "my-rows-2"
    tags               = { team = "data" }
    network            = "isolated"
    vpc_cidr           = "172.20.0.0/22"
    availability_zones = ["eu-central-1c", "eu-central-1a"]
    existing_vpc       = null
    security_group_ids = []
    agent_ports        = [8080]
    egress             = { cidr_blocks = ["10.0.0.0/8"], ipv6_cidr_blocks = ["::/0"], prefix_list_ids = ["pl-0abc"], dns = false }
    endpoint_services  = ["sqs", "ecr.api", "ecr.dkr", "logs", "ecs", "lambda"]
    endpoint_policies  = { s3 = "{\"Statement\": []}", lambda = null }
  }
}

run "good_values_of_an_existing_vpc" {
  command = plan

  variables {
    network            = "existing"
    existing_vpc       = { vpc_id = "vpc-0abc", subnet_ids = ["subnet-0abc"], assign_public_ip = true }
    security_group_ids = ["sg-0abc", "sg-0def"]
  }
}

run "values_that_are_not_known_yet" {
  command = plan

  module {
    source = "./tests/unknown"
  }
}
