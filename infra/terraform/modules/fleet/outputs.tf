output "cluster" {
  description = "Name of the ECS cluster."
  value       = local.cluster_name
}

output "cluster_arn" {
  description = "ARN of the ECS cluster."
  value       = local.cluster_arn
}

output "services" {
  description = "The services by their names in ECS: service (worker, control, splitter, aggregator), roles, the dimension of their metrics, ARN, task definition; none before var.image is given. The names are known at plan."
  value = {
    for name, service in local.services : local.service_names[name] => {
      service             = name
      roles               = service.roles
      metric_role         = local.metric_roles[name]
      arn                 = aws_ecs_service.service[name].id
      task_definition_arn = aws_ecs_task_definition.service[name].arn
    }
  }
}

output "task_role_arns" {
  description = "Role of each service, to be allowed by resources of yours."
  value       = local.task_role_arns
}

output "execution_role_arn" {
  description = "Role by which ECS starts tasks."
  value       = local.execution_role_arn
}

output "task_policy_json" {
  description = "The statements that each service needs, for existing roles (iam.task_role_arns)."
  value       = { for name, document in data.aws_iam_policy_document.task : name => document.json }
}

output "execution_policy_json" {
  description = "The statements that ECS needs to start tasks, for an existing role (iam.execution_role_arn)."
  value       = data.aws_iam_policy_document.execution.json
}

output "scaler_policy_json" {
  description = "The statements that the scaler needs, for an existing role (iam.scaler_role_arn)."
  value       = data.aws_iam_policy_document.scaler.json
}

output "repository_url" {
  description = "Where to push the image, whose tag var.image names; null if the repository is not made here."
  value       = one(aws_ecr_repository.image[*].repository_url)
}

output "repository_arn" {
  description = "ARN of the image's repository; null if it is not in ECR."
  value       = one(local.repository_arns)
}

output "log_group" {
  description = "CloudWatch log group of all tasks and the scaler."
  value       = local.log_group
}

output "log_group_arn" {
  description = "ARN of the log group."
  value       = local.log_group_arn
}

output "scaler_function" {
  description = "Name of the scaler's Lambda function; null with scaling = alarms, or before var.image is given."
  value       = local.has_scaler ? local.scaler_name : null
}

output "scaler_function_arn" {
  description = "ARN of the scaler's Lambda function; null with scaling = alarms, or before var.image is given."
  value       = one(aws_lambda_function.scaler[*].arn)
}

output "scaler_role_arn" {
  description = "Role of the scaler; null with scaling = alarms."
  value       = var.scaling == "scaler" ? local.scaler_role_arn : null
}

output "state_machine_arn" {
  description = "State machine that runs a batch and waits for it; null without var.state_machine."
  value       = one(aws_sfn_state_machine.run[*].arn)
}

output "operator_policy_json" {
  description = "Policy for operators: every rowfleet command about runs, dead-letters and setup --check, but neither setup itself, scaler nor purge; it writes neither table nor results."
  value       = data.aws_iam_policy_document.user["operator"].json
}

output "submitter_policy_json" {
  description = "Policy for those who start runs and fetch results: submit, watch, status, list, errors, fetch, and dropping files into incoming/. Requests such as pause go through the same queue as jobs, so it allows them too."
  value       = data.aws_iam_policy_document.user["submitter"].json
}

output "endpoint_services" {
  description = "Interface endpoints that tasks need in a network without the internet, beside those of agents and of stores of secrets; known at plan."
  value       = local.endpoint_services
}

output "environment" {
  description = "Environment of all tasks, without that of single services."
  value       = local.common_environment
}
