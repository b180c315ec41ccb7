variable "environment" {
  description = "Name of the environment: it ends the names of all resources."
  type        = string

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "environment has to be dev or prod."
  }
}

variable "image" {
  description = "Image with its tag; null until one is pushed."
  type        = string
  default     = null
}

variable "image_repository_arns" {
  description = "Repositories that hold the image, where that is not the one of this environment."
  type        = list(string)
  default     = []
}

variable "max_tasks" {
  description = "Most worker tasks."
  type        = number
}

variable "spot_percent" {
  description = "Part of the worker tasks on Fargate Spot."
  type        = number
}

variable "agent_url" {
  description = "Address of the agent in this environment."
  type        = string
}

variable "alarm_email" {
  description = "Address that alarms are mailed to; null for none."
  type        = string
  default     = null
}
