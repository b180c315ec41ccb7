# scaling = scaler: the same image as a Lambda function, once a minute. It reads the queues and the unfinished batches
# and sets the sizes of all services in one step, from zero and back to it.

locals {
  has_scaler  = var.scaling == "scaler" && var.image != null
  scaler_name = "${var.prefix}-scaler"
  scaler_arn  = "arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:${local.scaler_name}"

  scaled_services = {
    for name, service in local.planned : local.service_names[name] => merge(
      { minimum = service.minimum, maximum = service.maximum, roles = service.roles },
      name == "worker" ? { backlog_per_task = var.worker.backlog_per_task } : {},
    )
  }

  # Lambda sets AWS_REGION itself and refuses it here. The function runs outside the VPC, so it has no use for the
  # proxy; and it tells nobody of runs.
  scaler_environment = merge(
    { for name, value in var.settings : "ROWFLEET_${name}" => value },
    local.managed_environment,
    {
      ROWFLEET_SCALER__CLUSTER    = local.cluster_name
      ROWFLEET_SCALER__SERVICES   = jsonencode(local.scaled_services)
      ROWFLEET_SCALER__IDLE_S     = tostring(var.scaler.idle_minutes * 60)
      ROWFLEET_SCALER__COOLDOWN_S = tostring(var.scaler.cooldown_s)
    },
  )
}

resource "aws_lambda_function" "scaler" {
  # checkov:skip=CKV_AWS_50: one short call a minute, whose decision is in its log line; traces would cost more than it
  # checkov:skip=CKV_AWS_115: scaler.reserved_concurrency sets it; a new account has none to reserve
  # checkov:skip=CKV_AWS_116: an event that failed is not needed any more, as the next comes within a minute
  # checkov:skip=CKV_AWS_117: it calls AWS only; outside the VPC it needs neither NAT nor endpoints
  # checkov:skip=CKV_AWS_173: names and numbers, no secrets
  # checkov:skip=CKV_AWS_272: Lambda signs no container images
  count = local.has_scaler ? 1 : 0

  function_name                  = local.scaler_name
  description                    = "Sets the sizes of rowfleet's services"
  role                           = local.scaler_role_arn
  package_type                   = "Image"
  image_uri                      = var.image
  architectures                  = [var.architecture == "ARM64" ? "arm64" : "x86_64"]
  memory_size                    = var.scaler.memory
  timeout                        = 50 # it is over before the next one begins
  reserved_concurrent_executions = coalesce(var.scaler.reserved_concurrency, -1)
  tags                           = local.tags

  image_config {
    command = ["scaler"]
  }

  environment {
    variables = local.scaler_environment
  }

  # Text: the function writes JSON lines itself.
  logging_config {
    log_format = "Text"
    log_group  = local.log_group
  }

  depends_on = [
    aws_iam_role_policy.scaler,
    aws_iam_role_policy_attachment.managed,
    aws_ecr_repository_policy.image,
  ]
}

# No attempt is repeated: the next invocation, within a minute, decides on newer numbers.
resource "aws_lambda_function_event_invoke_config" "scaler" {
  count                        = local.has_scaler ? 1 : 0
  function_name                = aws_lambda_function.scaler[0].function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}

resource "aws_cloudwatch_event_rule" "scaler" {
  count               = local.has_scaler ? 1 : 0
  name                = local.scaler_name
  description         = "Once a minute: the sizes of rowfleet's services"
  schedule_expression = "rate(1 minute)"
  tags                = local.tags
}

resource "aws_cloudwatch_event_target" "scaler" {
  count = local.has_scaler ? 1 : 0
  rule  = aws_cloudwatch_event_rule.scaler[0].name
  arn   = aws_lambda_function.scaler[0].arn

  retry_policy {
    maximum_event_age_in_seconds = 60
    maximum_retry_attempts       = 0
  }

  depends_on = [aws_lambda_permission.scaler]
}

resource "aws_lambda_permission" "scaler" {
  count         = local.has_scaler ? 1 : 0
  statement_id  = "EveryMinute"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.scaler[0].function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.scaler[0].arn
}
