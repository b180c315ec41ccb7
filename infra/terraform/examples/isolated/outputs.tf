output "bucket" {
  description = "Bucket; mappings go to its config/mappings/, CSV files to incoming/{mapping}/."
  value       = module.rowfleet.bucket
}

output "secret_name" {
  description = "Put the agent's token into this secret before the first run."
  value       = aws_secretsmanager_secret.agent.name
}

output "repository_url" {
  description = "Push the image here."
  value       = module.rowfleet.repository_url
}
