variable "image" {
  description = "Image with its tag, in the repository that the first apply makes; null until one is pushed."
  type        = string
  default     = null
}

variable "agent_function_arn" {
  description = "Lambda function that is the agent."
  type        = string
}
