# The roles: of each service, of ECS to start them, of the scaler. Existing roles can stand in for each.

locals {
  own_task_roles     = { for name, statements in local.task_statements : name => statements if !contains(keys(var.iam.task_role_arns), name) }
  own_execution_role = coalesce(var.iam.create_execution_role, var.iam.execution_role_arn == null)
  own_scaler_role    = var.scaling == "scaler" && coalesce(var.iam.create_scaler_role, var.iam.scaler_role_arn == null)

  task_role_arns = merge(
    { for name, role in aws_iam_role.task : name => role.arn },
    { for name, arn in var.iam.task_role_arns : name => arn if contains(keys(local.planned), name) },
  )
  execution_role_arn = local.own_execution_role ? aws_iam_role.execution[0].arn : var.iam.execution_role_arn
  scaler_role_arn    = local.own_scaler_role ? aws_iam_role.scaler[0].arn : var.iam.scaler_role_arn

  own_roles = merge(
    { for name, role in aws_iam_role.task : name => role.name },
    local.own_execution_role ? { execution = aws_iam_role.execution[0].name } : {},
    local.own_scaler_role ? { scaler = aws_iam_role.scaler[0].name } : {},
  )
  # The position is the key, as an ARN may not be known at plan.
  managed_policies = merge([
    for name, arns in var.iam.managed_policy_arns : {
      for i, arn in arns : "${name}-${i}" => { name = name, arn = arn }
    } if contains(keys(local.own_roles), name)
  ]...)

  too_long = "are more than the 10,240 characters that IAM takes for a role: move some into a managed policy (iam.managed_policy_arns)."
}

data "aws_iam_policy_document" "assumed_by_tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${local.region}:${local.account_id}:*"]
    }
  }
}

# No conditions on the source, as in AWS's documentation: ECS does not pass the task that it starts.
data "aws_iam_policy_document" "assumed_by_ecs" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "assumed_by_lambda" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

# -- services ---------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "task" {
  # checkov:skip=CKV_AWS_356: the answers to Step Functions tasks know no resource; nothing else is on "*"
  # checkov:skip=CKV_AWS_111: the same: a task's token, which only its state machine gives away, says what is written
  for_each = local.task_statements

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}

resource "aws_iam_role" "task" {
  for_each             = local.own_task_roles
  name                 = "${var.prefix}-${each.key}"
  path                 = var.iam.path
  permissions_boundary = var.iam.permissions_boundary_arn
  description          = "What rowfleet's ${each.key} may do"
  assume_role_policy   = data.aws_iam_policy_document.assumed_by_tasks.json
  tags                 = local.tags
}

resource "aws_iam_role_policy" "task" {
  for_each = local.own_task_roles
  name     = "rowfleet"
  role     = aws_iam_role.task[each.key].id
  policy   = data.aws_iam_policy_document.task[each.key].json

  lifecycle {
    precondition {
      condition     = length(jsonencode(jsondecode(data.aws_iam_policy_document.task[each.key].json))) <= 10240
      error_message = "The permissions of ${each.key} (policy_statements, agent_policy_statements, mapping_policy_statements) ${local.too_long}"
    }
  }
}

# -- ECS, to start tasks ------------------------------------------------------------------------------------

data "aws_iam_policy_document" "execution" {
  # checkov:skip=CKV_AWS_356: ecr:GetAuthorizationToken knows no resource; nothing else is on "*"
  # checkov:skip=CKV_AWS_111: the token reads from registries only; all other statements name their resources
  dynamic "statement" {
    for_each = local.execution_statements

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}

resource "aws_iam_role" "execution" {
  count                = local.own_execution_role ? 1 : 0
  name                 = "${var.prefix}-execution"
  path                 = var.iam.path
  permissions_boundary = var.iam.permissions_boundary_arn
  description          = "What ECS may do to start rowfleet's tasks"
  assume_role_policy   = data.aws_iam_policy_document.assumed_by_ecs.json
  tags                 = local.tags
}

resource "aws_iam_role_policy" "execution" {
  count  = local.own_execution_role ? 1 : 0
  name   = "rowfleet"
  role   = aws_iam_role.execution[0].id
  policy = data.aws_iam_policy_document.execution.json

  lifecycle {
    precondition {
      condition     = length(jsonencode(jsondecode(data.aws_iam_policy_document.execution.json))) <= 10240
      error_message = "The permissions of the execution role (agent_secrets, repositories, keys) ${local.too_long}"
    }
  }
}

# -- scaler -------------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "scaler" {
  dynamic "statement" {
    for_each = local.scaler_statements

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}

resource "aws_iam_role" "scaler" {
  count                = local.own_scaler_role ? 1 : 0
  name                 = local.scaler_name
  path                 = var.iam.path
  permissions_boundary = var.iam.permissions_boundary_arn
  description          = "What rowfleet's scaler may do"
  assume_role_policy   = data.aws_iam_policy_document.assumed_by_lambda.json
  tags                 = local.tags
}

resource "aws_iam_role_policy" "scaler" {
  count  = local.own_scaler_role ? 1 : 0
  name   = "rowfleet"
  role   = aws_iam_role.scaler[0].id
  policy = data.aws_iam_policy_document.scaler.json
}

resource "aws_iam_role_policy_attachment" "managed" {
  for_each   = local.managed_policies
  role       = local.own_roles[each.value.name]
  policy_arn = each.value.arn
}
