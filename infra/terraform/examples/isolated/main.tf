# Without the internet: the agent is a Lambda function, its secret is made here as well, and all traffic stays inside
# AWS.

provider "aws" {}

resource "aws_secretsmanager_secret" "agent" {
  # checkov:skip=CKV_AWS_149: encrypted with Secrets Manager's key; name one of yours with kms_key_id
  # checkov:skip=CKV2_AWS_57: the agent's token is rotated where it is made
  name_prefix = "rowfleet-agent-"
}

module "rowfleet" {
  source = "../.."

  image               = var.image
  network             = "isolated"
  interface_endpoints = ["lambda"]
  agent_secrets       = { AGENT_TOKEN = aws_secretsmanager_secret.agent.arn }

  agent_policy_statements = [
    { actions = ["lambda:InvokeFunction"], resources = [var.agent_function_arn] },
  ]
}
