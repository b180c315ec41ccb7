# The repository for the image. Tags cannot be moved, so the image that was tested is the one that runs.

locals {
  # The repository of an image in ECR, and the one from which tasks may pull; both null if the image lies elsewhere.
  image_repository = try(regex("^[0-9]{12}\\.dkr\\.ecr[a-z-]*\\.[a-z0-9-]+\\.[a-z.]+/([^:@]+)[:@]", var.image)[0], null)
  own_repository   = var.repository.create ? coalesce(var.repository.name, var.prefix) : null

  repository_arns = var.repository.create ? [aws_ecr_repository.image[0].arn] : compact([var.repository.arn])

  # An image that is named by its digest may have no tag, so then nothing expires for having none.
  by_digest = strcontains(coalesce(var.image, "-"), "@")
  expiring = concat(
    local.by_digest ? [] : [{ tagStatus = "untagged" }],
    [for prefix in var.repository.expire_tag_prefixes : { tagStatus = "tagged", tagPrefixList = [prefix] }],
  )
}

resource "aws_ecr_repository" "image" {
  # checkov:skip=CKV_AWS_136: the image holds no data; ECR encrypts it with its own key
  count                = var.repository.create ? 1 : 0
  name                 = coalesce(var.repository.name, var.prefix)
  image_tag_mutability = "IMMUTABLE"
  force_delete         = var.repository.force_delete
  tags                 = local.tags

  image_scanning_configuration {
    scan_on_push = true
  }
}

# A rule for all tags would count versions that run, or that ECS rolls back to, among those that may go.
resource "aws_ecr_lifecycle_policy" "image" {
  count      = var.repository.create && length(local.expiring) > 0 ? 1 : 0
  repository = aws_ecr_repository.image[0].name

  policy = jsonencode({
    rules = [
      for i, selection in local.expiring : {
        rulePriority = i + 1
        description  = "the last ${var.repository.keep_images} images ${try("of ${selection.tagPrefixList[0]}", "without a tag")}"
        selection    = merge(selection, { countType = "imageCountMoreThan", countNumber = var.repository.keep_images })
        action       = { type = "expire" }
      }
    ]
  })
}

# Lambda pulls the scaler's image by the repository's policy, not by a role.
data "aws_iam_policy_document" "repository" {
  statement {
    sid       = "LambdaPulls"
    actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = null # a repository's policy names none

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }

    condition {
      test     = "StringLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:*"]
    }
  }
}

resource "aws_ecr_repository_policy" "image" {
  count      = var.repository.create && var.scaling == "scaler" ? 1 : 0
  repository = aws_ecr_repository.image[0].name
  policy     = data.aws_iam_policy_document.repository.json
}
