output "bucket" {
  description = "Bucket; drop CSV files into its incoming/{mapping}/."
  value       = module.rowfleet.bucket
}

output "repository_url" {
  description = "Push the image here."
  value       = module.rowfleet.repository_url
}

output "cli_environment" {
  description = "For the rowfleet command: eval \"$(terraform output -raw cli_environment)\"."
  value       = module.rowfleet.cli_environment
}
