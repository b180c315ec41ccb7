# Services use subnet_ids and security_group_ids. Both depend on all that tasks need, so that a service starts after it
# exists, and moves before it is destroyed.

output "vpc_id" {
  description = "VPC of the tasks."
  value       = local.vpc_id
}

output "subnet_ids" {
  description = "Subnets of the tasks."
  value       = local.task_subnet_ids

  depends_on = [
    aws_route.internet,
    aws_route.nat,
    aws_route_table_association.public,
    aws_route_table_association.private,
    aws_vpc_endpoint.gateway,
    aws_vpc_endpoint.interface,
  ]
}

output "assign_public_ip" {
  description = "True if tasks need a public address."
  value       = local.assign_public_ip
}

output "security_group_ids" {
  description = "Security groups of the tasks: the one of this module, or security_group_ids."
  value       = local.task_groups

  depends_on = [
    aws_vpc_security_group_egress_rule.tasks,
    aws_vpc_security_group_ingress_rule.endpoints,
  ]
}

output "security_group_id" {
  description = "Security group that this module created for the tasks, to be allowed by agents of yours; null with security_group_ids."
  value       = one(aws_security_group.tasks[*].id)
}

output "availability_zones" {
  description = "Zones of the VPC that this module created; none of an existing one."
  value       = local.zones
}

output "route_table_ids" {
  description = "Route tables of the VPC that this module created, for peerings and endpoints of yours."
  value       = concat(aws_route_table.public[*].id, aws_route_table.private[*].id)
}

output "nat_public_ip" {
  description = "Address that agents see with network = nat; null otherwise."
  value       = one(aws_eip.nat[*].public_ip)
}

output "endpoint_ids" {
  description = "VPC endpoints that this module created, by service."
  value       = { for name, endpoint in merge(aws_vpc_endpoint.gateway, aws_vpc_endpoint.interface) : name => endpoint.id }
}
