"""Events by HTTPS to a webhook, signed as Standard Webhooks has it."""
