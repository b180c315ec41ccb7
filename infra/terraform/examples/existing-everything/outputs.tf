output "bucket" {
  description = "Bucket; drop CSV files into its incoming/{mapping}/."
  value       = module.rowfleet.bucket
}

output "task_role_arns" {
  description = "Roles of the tasks, for policies of your resources."
  value       = module.rowfleet.task_role_arns
}

output "operator_policy_json" {
  description = "Policy for people who operate runs."
  value       = module.rowfleet.operator_policy_json
}

output "submitter_policy_json" {
  description = "Policy for programs that start runs."
  value       = module.rowfleet.submitter_policy_json
}
