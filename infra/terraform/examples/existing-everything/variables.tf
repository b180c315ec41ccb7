variable "image" {
  description = "Image with its tag, in the repository."
  type        = string
}

variable "vpc_id" {
  description = "Your VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets with a route to AWS and to the agent."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Groups of the tasks; they have to let HTTPS out, and the way to the proxy."
  type        = list(string)
}

variable "proxy_url" {
  description = "Proxy for all connections out, such as http://proxy.example.com:3128."
  type        = string
}

variable "bucket" {
  description = "Bucket whose events go to EventBridge."
  type        = string
}

variable "cluster_arn" {
  description = "ECS cluster with the capacity providers FARGATE and FARGATE_SPOT."
  type        = string
}

variable "log_group_name" {
  description = "CloudWatch log group of the tasks."
  type        = string
}

variable "topic_arn" {
  description = "SNS topic that takes alarms of CloudWatch and EventBridge."
  type        = string
}

variable "repository_arn" {
  description = "ECR repository that holds the image; its policy lets lambda.amazonaws.com pull, for the scaler."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the bucket, and of the table that is made."
  type        = string
}

variable "secret_kms_key_arn" {
  description = "Key of the secret."
  type        = string
}

variable "permissions_boundary_arn" {
  description = "Policy that bounds every role of this account."
  type        = string
}

variable "agent_token_arn" {
  description = "Secrets Manager secret with the agent's token."
  type        = string
}

