variable "image" {
  description = "Image with its tag, in ECR of this account and region."
  type        = string
}

variable "agent_function_arn" {
  description = "Lambda function that is the agent."
  type        = string
}
