# Ids of resources of the same configuration, which are not known before the first apply.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

resource "terraform_data" "team" {
  for_each = { vpc = "vpc-0abc", subnet = "subnet-0abc", group = "sg-0abc", list = "pl-0abc" }
  input    = each.value
}

module "existing" {
  source = "../.."

  prefix             = "rowfleet"
  network            = "existing"
  existing_vpc       = { vpc_id = terraform_data.team["vpc"].output, subnet_ids = [terraform_data.team["subnet"].output] }
  security_group_ids = [terraform_data.team["group"].output]
}

module "own" {
  source = "../.."

  prefix = "rowfleet"
  egress = { cidr_blocks = ["10.0.0.0/8"], prefix_list_ids = [terraform_data.team["list"].output] }
}
