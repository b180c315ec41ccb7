# The cluster and the log group of all tasks; both can be existing ones.

locals {
  own_cluster   = coalesce(var.create_cluster, var.cluster_arn == null)
  cluster_arn   = local.own_cluster ? aws_ecs_cluster.main[0].arn : var.cluster_arn
  cluster_name  = local.own_cluster ? var.prefix : element(split("/", var.cluster_arn), -1)
  own_log_group = var.log_group_name == null
  log_group     = local.own_log_group ? aws_cloudwatch_log_group.service[0].name : var.log_group_name
  log_group_arn = local.own_log_group ? aws_cloudwatch_log_group.service[0].arn : "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:${var.log_group_name}"
}

resource "aws_cloudwatch_log_group" "service" {
  # checkov:skip=CKV_AWS_158: encrypted with CloudWatch's key by default; kms_key_arn switches to a KMS key
  # checkov:skip=CKV_AWS_338: logs hold no payloads; how long they are kept is log_retention_days
  count             = local.own_log_group ? 1 : 0
  name              = "/rowfleet/${var.prefix}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}

resource "aws_ecs_cluster" "main" {
  # checkov:skip=CKV_AWS_65: Container Insights costs by task and metric; rowfleet's own metrics come with its logs
  count = local.own_cluster ? 1 : 0
  name  = var.prefix
  tags  = local.tags

  setting {
    name  = "containerInsights"
    value = "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "main" {
  count              = local.own_cluster ? 1 : 0
  cluster_name       = aws_ecs_cluster.main[0].name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}
