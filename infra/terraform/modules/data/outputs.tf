output "bucket" {
  description = "Bucket: incoming/{mapping}/….csv starts a run, results are under results/."
  value       = local.bucket
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = local.bucket_arn
}

output "table" {
  description = "DynamoDB table of batches and outcomes."
  value       = aws_dynamodb_table.results.name
}

output "table_arn" {
  description = "ARN of the table; its indexes are {table_arn}/index/by_timestamp and {table_arn}/index/by_status."
  value       = aws_dynamodb_table.results.arn
}

output "queue_arns" {
  description = "ARNs by name: ingest, rows, aggregate, and each with -dlq."
  value       = local.queue_arns
}

output "queue_urls" {
  description = "URLs by name: ingest, rows, aggregate, and each with -dlq."
  value       = local.queue_urls
}

output "queue_names" {
  description = "Names of the queues by name: ingest, rows, aggregate, and each with -dlq."
  value       = local.queue_names
}

output "config_url" {
  description = "Folder of mappings/ and schemas/ in the bucket, as s3://bucket/config."
  value       = "s3://${local.bucket}/config"
}

output "mapping_names" {
  description = "Names of the uploaded mappings."
  value       = toset([for name in keys(local.mapping_files) : trimsuffix(trimsuffix(basename(name), ".yaml"), ".yml")])
}

output "longest_agent_timeout_s" {
  description = "Longest execution.timeout_seconds of the uploaded mappings; 0 without any."
  value       = local.longest_agent_timeout_s
}

output "rows_visibility_timeout_s" {
  description = "Seconds that a received row is hidden."
  value       = local.rows_visibility_timeout_s
}

output "max_message_bytes" {
  description = "Largest message of the queues."
  value       = var.max_message_bytes
}

output "max_receives" {
  description = "Deliveries of a message before it goes to the dead-letter queue."
  value       = var.max_receives
}

output "ttl_days" {
  description = "Days that batches and rows stay in the table."
  value       = var.ttl_days
}

output "expire_days" {
  description = "Days after which objects expire, by kind; work is never null."
  value       = local.expire_days
}

output "notified_by" {
  description = "On which way S3 tells the ingest queue of a file: s3 (a notification of the bucket) or eventbridge (with existing_bucket)."
  value       = local.own_bucket ? "s3" : "eventbridge"
}

output "incoming_rule_arn" {
  description = "EventBridge rule that tells the ingest queue of files in an existing_bucket; null with a bucket of this module."
  value       = one(aws_cloudwatch_event_rule.incoming[*].arn)
}

output "warm_throughput_command" {
  description = "Command of the AWS CLI that warms the table to table_throughput, once; null if nothing is to be warmed."
  value       = local.warm_throughput == "" ? null : "aws dynamodb update-table --region ${local.region} --table-name ${aws_dynamodb_table.results.name} --warm-throughput ${local.warm_throughput}"
}

output "cli_environment" {
  description = "Settings by which the rowfleet command finds these resources, and finds them equal in `rowfleet setup --check`."
  value = {
    ROWFLEET_BUCKET                     = local.bucket
    ROWFLEET_PREFIX                     = var.prefix
    ROWFLEET_TABLE                      = aws_dynamodb_table.results.name
    ROWFLEET_TTL_DAYS                   = tostring(var.ttl_days)
    ROWFLEET_WORK_TTL_DAYS              = tostring(local.expire_days.work)
    ROWFLEET_NOTIFIED_BY                = local.own_bucket ? "s3" : "eventbridge"
    ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S = tostring(local.rows_visibility_timeout_s)
    ROWFLEET_SPLIT__MAX_MESSAGE_BYTES   = tostring(var.max_message_bytes)
    ROWFLEET_INGEST__MAX_RECEIVES       = tostring(var.max_receives)
    ROWFLEET_ROWS__MAX_RECEIVES         = tostring(var.max_receives)
    ROWFLEET_RESULTS__MAX_RECEIVES      = tostring(var.max_receives)
  }
}
