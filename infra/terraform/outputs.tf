output "bucket" {
  description = "Bucket: incoming/{mapping}/….csv starts a run, results are under results/."
  value       = aws_s3_bucket.data.id
}

output "table" {
  description = "DynamoDB table of batches and outcomes."
  value       = aws_dynamodb_table.results.name
}

output "queue_urls" {
  description = "URLs by name: ingest, rows, aggregate, and each with -dlq."
  value       = local.queue_urls
}

output "repository_url" {
  description = "Where to push the image; its tag is what var.image names."
  value       = aws_ecr_repository.image.repository_url
}

output "cluster" {
  description = "ECS cluster."
  value       = aws_ecs_cluster.main.name
}

output "services" {
  description = "ECS services that exist: splitter, worker, aggregator; none before var.image is given."
  value       = sort(keys(local.all_services))
}

output "task_role_arns" {
  description = "Role of each service, to be allowed by resources of yours."
  value       = { for name, role in aws_iam_role.task : name => role.arn }
}

output "state_machine_arn" {
  description = "State machine that runs a batch and waits for it; null without var.state_machine."
  value       = one(aws_sfn_state_machine.run[*].arn)
}

output "security_group_id" {
  description = "Security group of the tasks, to be allowed by agents of yours."
  value       = aws_security_group.tasks.id
}

output "vpc_id" {
  description = "VPC of the tasks."
  value       = local.vpc_id
}

output "alarm_topic_arn" {
  description = "SNS topic that alarms go to."
  value       = aws_sns_topic.alarms.arn
}

output "log_group" {
  description = "CloudWatch log group of all services."
  value       = aws_cloudwatch_log_group.service.name
}

output "cli_environment" {
  description = "What the rowfleet command needs to see this deployment, `rowfleet setup` included: terraform output -raw cli_environment."
  value = join("", [
    for name, value in {
      AWS_REGION                          = local.region
      ROWFLEET_BUCKET                     = aws_s3_bucket.data.id
      ROWFLEET_PREFIX                     = var.prefix
      ROWFLEET_TABLE                      = aws_dynamodb_table.results.name
      ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S = local.rows_visibility_timeout_s
      ROWFLEET_SPLIT__MAX_MESSAGE_BYTES   = local.max_message_bytes
      ROWFLEET_INGEST__MAX_RECEIVES       = var.max_receives
      ROWFLEET_ROWS__MAX_RECEIVES         = var.max_receives
      ROWFLEET_RESULTS__MAX_RECEIVES      = var.max_receives
    } : "export ${name}=${value}\n"
  ])
}
