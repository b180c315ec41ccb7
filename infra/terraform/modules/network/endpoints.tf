# Endpoints of AWS inside the VPC.

locals {
  interface_services = var.network == "isolated" ? var.endpoint_services : toset([])

  own_principals = {
    Sid       = "OwnAccount"
    Effect    = "Allow"
    Principal = "*"
    Action    = "*"
    Resource  = "*"
    Condition = { StringEquals = { "aws:PrincipalAccount" = local.account_id } }
  }
  # These services also take requests without a principal of IAM: of nobody, or with a token of another issuer.
  unsigned_services = ["execute-api", "bedrock-agentcore", "bedrock-agentcore.gateway"]
  own_or_unsigned   = merge(local.own_principals, { Condition = { StringEqualsIfExists = { "aws:PrincipalAccount" = local.account_id } } })
  # ECR stores the layers of images in a bucket of AWS, and signs the requests for them itself.
  # https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html#ecr-minimum-s3-perms
  image_layers = {
    Sid       = "ImageLayers"
    Effect    = "Allow"
    Principal = "*"
    Action    = "s3:GetObject"
    Resource  = "arn:${local.partition}:s3:::prod-${local.region}-starport-layer-bucket/*"
  }

  default_policies = {
    for name in setunion(local.interface_services, ["s3", "dynamodb"]) : name => jsonencode({
      Version = "2012-10-17"
      Statement = concat(
        [contains(local.unsigned_services, name) ? local.own_or_unsigned : local.own_principals],
        [for statement in [local.image_layers] : statement if name == "s3"],
      )
    })
  }
  endpoint_policies = merge(local.default_policies, var.endpoint_policies)
}

# Gateway endpoints are free. They keep the traffic to S3 and DynamoDB off the internet and off the NAT gateway's
# bill.
resource "aws_vpc_endpoint" "gateway" {
  for_each          = local.own_vpc ? toset(["s3", "dynamodb"]) : []
  vpc_id            = aws_vpc.own[0].id
  service_name      = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = concat(aws_route_table.public[*].id, aws_route_table.private[*].id)
  policy            = local.endpoint_policies[each.key]
  tags              = merge(local.tags, { Name = "${var.prefix}-${each.key}" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = local.interface_services
  vpc_id              = aws_vpc.own[0].id
  service_name        = "com.amazonaws.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = values(aws_subnet.private)[*].id
  security_group_ids  = aws_security_group.endpoints[*].id
  private_dns_enabled = true
  policy              = local.endpoint_policies[each.key]
  tags                = merge(local.tags, { Name = "${var.prefix}-${each.key}" })

  lifecycle {
    create_before_destroy = true
  }
}
