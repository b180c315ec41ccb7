output "alarm_topic_arn" {
  description = "SNS topic that alarms go to; null without alarms."
  value       = var.alarms ? local.topic_arn : null
}

output "topic_policy_json" {
  description = "Policy document that lets CloudWatch and EventBridge publish to the topic: merge its statements into the policy of a topic of yours. Null without alarms."
  value       = one(data.aws_iam_policy_document.alarms[*].json)
}

output "alarm_arns" {
  description = "ARNs of the alarms by their name without the prefix."
  value       = { for name, alarm in aws_cloudwatch_metric_alarm.watch : name => alarm.arn }
}

output "event_rule_arn" {
  description = "EventBridge rule on failed tasks; null without alarms or services."
  value       = one(aws_cloudwatch_event_rule.failed_tasks[*].arn)
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard; null without."
  value       = one(aws_cloudwatch_dashboard.main[*].dashboard_name)
}
