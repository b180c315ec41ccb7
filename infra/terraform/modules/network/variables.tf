variable "prefix" {
  description = "Begins the name of everything that is created."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.prefix))
    error_message = "prefix has to be 3 to 20 characters: small letters, digits and hyphens, beginning with a letter and not ending with a hyphen."
  }
}

variable "tags" {
  description = "Tags on everything, beside application and deployment."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && length(key) <= 128])
    error_message = "tags: keys have at most 128 characters and do not begin with aws:, which AWS keeps for itself."
  }
}

variable "network" {
  description = "Network of the tasks. public: a VPC of its own, public addresses, no inbound connections, costs nothing at rest. nat: a VPC of its own, private subnets behind a NAT gateway. isolated: a VPC of its own without the internet, for agents inside AWS. existing: your VPC. A change starts new tasks in the new network before the old one goes; rows of tasks that still drain then are delivered again."
  type        = string
  default     = "public"
  nullable    = false

  validation {
    condition     = contains(["public", "nat", "isolated", "existing"], var.network)
    error_message = "network has to be public, nat, isolated or existing."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that this module creates. A change creates another VPC, with another address of its NAT gateway, and moves the tasks there as a change of network does."
  type        = string
  default     = "10.60.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 22, false)
    error_message = "vpc_cidr has to be an IPv4 range from /16 to /22, such as 10.60.0.0/16."
  }
}

variable "availability_zones" {
  description = "Names of two to six availability zones for the VPC that this module creates; leave out those without Fargate. Empty: the first two by name. A change moves the tasks of zones that are left out; the NAT gateway is in the first by name, and gets another address with another first zone. An existing VPC has its own."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.availability_zones) == 0 || length(var.availability_zones) >= 2 && length(var.availability_zones) <= 6
    error_message = "availability_zones has to name two to six zones, or none for the first two by name."
  }

  validation {
    condition     = length(distinct(var.availability_zones)) == length(var.availability_zones) && alltrue([for zone in var.availability_zones : can(regex("^[a-z]+(-[a-z]+)+-[0-9]+[a-z]$", zone))])
    error_message = "availability_zones has to be different names such as {region}a, not ids such as use1-az1, which other resources cannot take."
  }
}

variable "existing_vpc" {
  description = "With network = existing: its id, the subnets for the tasks, and whether tasks need a public address there. They have to reach SQS, DynamoDB, S3, ECR, CloudWatch Logs, ECS and the agents."
  type = object({
    vpc_id           = string
    subnet_ids       = list(string)
    assign_public_ip = optional(bool, false)
  })
  default = null

  validation {
    condition     = (var.network == "existing") == (var.existing_vpc != null)
    error_message = "existing_vpc belongs to network = existing: give both or neither."
  }

  validation {
    condition     = var.existing_vpc == null || can(regex("^vpc-[0-9a-f]+$", var.existing_vpc.vpc_id))
    error_message = "existing_vpc.vpc_id has to be the id of a VPC, such as vpc-0abc."
  }

  validation {
    condition     = var.existing_vpc == null || try(length(var.existing_vpc.subnet_ids) >= 1 && length(var.existing_vpc.subnet_ids) <= 16, false)
    error_message = "existing_vpc.subnet_ids has to name 1 to 16 subnets, which is what an ECS service takes."
  }

  validation {
    condition     = var.existing_vpc == null || try(alltrue([for id in var.existing_vpc.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))]), false)
    error_message = "existing_vpc.subnet_ids have to be ids of subnets, such as subnet-0abc."
  }
}

# -- access ----------------------------------------------------------------------------------------------

variable "security_group_ids" {
  description = "Security groups of yours for the tasks; none is created then. They have to allow HTTPS to AWS and the way to the agents, and nothing inbound. A change replaces the tasks, which drain first."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.security_group_ids) <= 5
    error_message = "security_group_ids: a task takes at most five security groups."
  }

  validation {
    condition     = alltrue([for id in var.security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "security_group_ids have to be ids of security groups, such as sg-0abc."
  }
}

variable "agent_ports" {
  description = "TCP ports that tasks may connect to, for agents, at the addresses of egress. 443 is always open, for AWS."
  type        = set(number)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for port in var.agent_ports : port >= 1 && port <= 65535 && floor(port) == port && port != 443])
    error_message = "agent_ports have to be whole numbers from 1 to 65535, without 443, which is open anyway."
  }

  validation {
    condition     = length(var.agent_ports) == 0 || length(var.security_group_ids) == 0
    error_message = "agent_ports belong to the security group of this module: with security_group_ids, open the ports there."
  }
}

variable "egress" {
  description = "Addresses that tasks may connect to, on 443 and agent_ports: IPv4 and IPv6 ranges and prefix lists; dns: also on port 53 (UDP and TCP), which only name servers other than the VPC's own need. S3, DynamoDB and endpoints of a VPC of this module are open in any case; SQS, ECR and Logs have to be among the addresses unless they have endpoints."
  type = object({
    cidr_blocks      = optional(list(string), ["0.0.0.0/0"])
    ipv6_cidr_blocks = optional(list(string), [])
    prefix_list_ids  = optional(list(string), [])
    dns              = optional(bool, true)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for range in var.egress.cidr_blocks : can(cidrnetmask(range))])
    error_message = "egress.cidr_blocks have to be IPv4 ranges, such as 10.0.0.0/8."
  }

  validation {
    condition     = alltrue([for range in var.egress.ipv6_cidr_blocks : can(cidrhost(range, 0)) && strcontains(range, ":")])
    error_message = "egress.ipv6_cidr_blocks have to be IPv6 ranges, such as ::/0."
  }

  validation {
    condition     = alltrue([for id in var.egress.prefix_list_ids : can(regex("^pl-[0-9a-f]+$", id))])
    error_message = "egress.prefix_list_ids have to be ids of prefix lists, such as pl-0abc."
  }

  validation {
    condition     = var.network == "isolated" || length(var.egress.cidr_blocks) + length(var.egress.ipv6_cidr_blocks) + length(var.egress.prefix_list_ids) > 0
    error_message = "egress names no address: tasks would reach neither AWS nor agents. Only network = isolated needs none."
  }

  validation {
    condition     = length(var.security_group_ids) == 0 || length(var.egress.ipv6_cidr_blocks) + length(var.egress.prefix_list_ids) == 0 && join(" ", var.egress.cidr_blocks) == "0.0.0.0/0"
    error_message = "egress belongs to the security group of this module: with security_group_ids, write the rules there."
  }

  validation {
    condition     = (length(var.egress.cidr_blocks) + length(var.egress.ipv6_cidr_blocks) + length(var.egress.prefix_list_ids)) * (1 + length(var.agent_ports) + (var.egress.dns ? 2 : 0)) <= 50
    error_message = "egress times agent_ports makes more than 50 rules, and AWS takes 60 in a security group: use a prefix list or wider ranges."
  }
}

# -- endpoints -------------------------------------------------------------------------------------------

variable "endpoint_services" {
  description = "With network = isolated: AWS services that get an interface endpoint, as in com.amazonaws.{region}.NAME; tasks need sqs, ecr.api, ecr.dkr, logs and ecs. Each costs by the hour in each zone. The other networks reach AWS without them, and get none."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.endpoint_services : can(regex("^[a-z0-9][a-z0-9.-]*$", name))])
    error_message = "endpoint_services: names of services as in com.amazonaws.{region}.NAME, such as lambda or bedrock-runtime."
  }

  validation {
    condition     = length(setintersection(var.endpoint_services, ["s3", "dynamodb"])) == 0
    error_message = "endpoint_services: s3 and dynamodb have gateway endpoints in every VPC of this module, at no cost; leave them out."
  }
}

variable "endpoint_policies" {
  description = "Policy of an endpoint as JSON, by its service (s3, dynamodb or one of endpoint_services); null for AWS's own, which allows everything. Without an entry: requests of principals of this account, and for s3 also the layers of images in ECR. Agents that are called under a role of another account, and objects in S3 that another account has signed a URL for, need an entry."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.endpoint_policies), setunion(var.endpoint_services, ["s3", "dynamodb"]))) == 0
    error_message = "endpoint_policies names a service that has no endpoint here: s3, dynamodb and those of endpoint_services have one."
  }

  validation {
    condition     = alltrue([for policy in values(var.endpoint_policies) : policy == null || can(jsondecode(policy).Statement)])
    error_message = "endpoint_policies: each has to be a policy document as JSON, with its Statement."
  }
}
