# Outputs of the modules; null where a module is left out.

output "bucket" {
  description = "Bucket: incoming/{mapping}/….csv starts a run, results are under results/."
  value       = try(local.data.bucket, null)
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = try(local.data.bucket_arn, null)
}

output "table" {
  description = "DynamoDB table of batches and outcomes."
  value       = try(local.data.table, null)
}

output "table_arn" {
  description = "ARN of the table; its indexes are {table_arn}/index/by_timestamp and {table_arn}/index/by_status."
  value       = try(local.data.table_arn, null)
}

output "queue_arns" {
  description = "ARNs by name: ingest, rows, aggregate, and each with -dlq."
  value       = try(local.data.queue_arns, null)
}

output "queue_urls" {
  description = "URLs by name: ingest, rows, aggregate, and each with -dlq."
  value       = try(local.data.queue_urls, null)
}

output "queue_names" {
  description = "Names of the queues by name: ingest, rows, aggregate, and each with -dlq."
  value       = try(local.data.queue_names, null)
}

output "mapping_names" {
  description = "Names of the uploaded mappings."
  value       = one(module.data[*].mapping_names)
}

output "notified_by" {
  description = "On which way S3 tells the ingest queue of a file: s3 (a notification of the bucket) or eventbridge (with existing_bucket)."
  value       = one(module.data[*].notified_by)
}

output "incoming_rule_arn" {
  description = "EventBridge rule that tells the ingest queue of files in an existing_bucket; null with a bucket of this module."
  value       = one(module.data[*].incoming_rule_arn)
}

output "warm_throughput_command" {
  description = "Command of the AWS CLI that warms the table to table_throughput, once; null if nothing is to be warmed."
  value       = one(module.data[*].warm_throughput_command)
}

output "rows_visibility_timeout_s" {
  description = "Seconds that a received row is hidden."
  value       = try(local.data.rows_visibility_timeout_s, null)
}

output "data" {
  description = "Bucket, table and queues, for existing_data of another configuration."
  value       = local.data
}

output "vpc_id" {
  description = "VPC of the tasks."
  value       = one(module.network[*].vpc_id)
}

output "subnet_ids" {
  description = "Subnets of the tasks."
  value       = local.network.subnet_ids
}

output "security_group_ids" {
  description = "Security groups of the tasks: the one of this module, or security_group_ids."
  value       = local.network.security_group_ids
}

output "security_group_id" {
  description = "Security group that this module created for the tasks, to be allowed by agents of yours; null with security_group_ids."
  value       = one(module.network[*].security_group_id)
}

output "availability_zones" {
  description = "Zones of the VPC that this module created; none of an existing one."
  value       = one(module.network[*].availability_zones)
}

output "route_table_ids" {
  description = "Route tables of the VPC that this module created, for peerings and endpoints of yours."
  value       = one(module.network[*].route_table_ids)
}

output "nat_public_ip" {
  description = "Address that agents see with network = nat; null otherwise."
  value       = one(module.network[*].nat_public_ip)
}

output "endpoint_ids" {
  description = "VPC endpoints that this module created, by service."
  value       = one(module.network[*].endpoint_ids)
}

output "cluster" {
  description = "Name of the ECS cluster."
  value       = one(module.fleet[*].cluster)
}

output "cluster_arn" {
  description = "ARN of the ECS cluster."
  value       = one(module.fleet[*].cluster_arn)
}

output "services" {
  description = "The services by their names in ECS: service (worker, control, splitter, aggregator), roles, the dimension of their metrics, ARN, task definition; none before var.image is given. The names are known at plan."
  value       = one(module.fleet[*].services)
}

output "task_role_arns" {
  description = "Role of each service, to be allowed by resources of yours."
  value       = one(module.fleet[*].task_role_arns)
}

output "execution_role_arn" {
  description = "Role by which ECS starts tasks."
  value       = one(module.fleet[*].execution_role_arn)
}

output "task_policy_json" {
  description = "The statements that each service needs, for existing roles (iam.task_role_arns)."
  value       = one(module.fleet[*].task_policy_json)
}

output "execution_policy_json" {
  description = "The statements that ECS needs to start tasks, for an existing role (iam.execution_role_arn)."
  value       = one(module.fleet[*].execution_policy_json)
}

output "scaler_policy_json" {
  description = "The statements that the scaler needs, for an existing role (iam.scaler_role_arn)."
  value       = one(module.fleet[*].scaler_policy_json)
}

output "repository_url" {
  description = "Where to push the image, whose tag var.image names; null if the repository is not made here."
  value       = one(module.fleet[*].repository_url)
}

output "repository_arn" {
  description = "ARN of the image's repository; null if it is not in ECR."
  value       = one(module.fleet[*].repository_arn)
}

output "log_group" {
  description = "CloudWatch log group of all tasks and the scaler."
  value       = one(module.fleet[*].log_group)
}

output "log_group_arn" {
  description = "ARN of the log group."
  value       = one(module.fleet[*].log_group_arn)
}

output "scaler_function" {
  description = "Name of the scaler's Lambda function; null with scaling = alarms, or before var.image is given."
  value       = one(module.fleet[*].scaler_function)
}

output "scaler_function_arn" {
  description = "ARN of the scaler's Lambda function; null with scaling = alarms, or before var.image is given."
  value       = one(module.fleet[*].scaler_function_arn)
}

output "scaler_role_arn" {
  description = "Role of the scaler; null with scaling = alarms."
  value       = one(module.fleet[*].scaler_role_arn)
}

output "state_machine_arn" {
  description = "State machine that runs a batch and waits for it; null without var.state_machine."
  value       = one(module.fleet[*].state_machine_arn)
}

output "operator_policy_json" {
  description = "Policy for operators: every rowfleet command about runs, dead-letters and setup --check, but neither setup itself, scaler nor purge; it writes neither table nor results."
  value       = one(module.fleet[*].operator_policy_json)
}

output "submitter_policy_json" {
  description = "Policy for those who start runs and fetch results: submit, watch, status, list, errors, fetch, and dropping files into incoming/. Requests such as pause go through the same queue as jobs, so it allows them too."
  value       = one(module.fleet[*].submitter_policy_json)
}

output "alarm_topic_arn" {
  description = "SNS topic that alarms go to; null without alarms."
  value       = one(module.observability[*].alarm_topic_arn)
}

output "topic_policy_json" {
  description = "Policy document that lets CloudWatch and EventBridge publish to the topic: merge its statements into the policy of a topic of yours. Null without alarms."
  value       = one(module.observability[*].topic_policy_json)
}

output "alarm_arns" {
  description = "ARNs of the alarms by their name without the prefix."
  value       = one(module.observability[*].alarm_arns)
}

output "event_rule_arn" {
  description = "EventBridge rule on failed tasks; null without alarms or services."
  value       = one(module.observability[*].event_rule_arn)
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard; null without."
  value       = one(module.observability[*].dashboard_name)
}

output "cli_environment" {
  description = "What the rowfleet command needs to see this deployment, `rowfleet setup --check` included: eval \"$(terraform output -raw cli_environment)\"."
  value       = join("", [for name, value in merge({ AWS_REGION = data.aws_region.current.id }, local.data.cli_environment) : "export ${name}=${value}\n"])
}
