# The repository for the image. Tags cannot be moved, so the image that was tested is the one that runs.

resource "aws_ecr_repository" "image" {
  # checkov:skip=CKV_AWS_136: the image holds no data; ECR encrypts it with its own key
  name                 = var.prefix
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.protect_data
  tags                 = local.tags

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "image" {
  repository = aws_ecr_repository.image.name

  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "the last 20 images, to roll back to"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
      action       = { type = "expire" }
    }]
  })
}
