# The smallest deployment: a VPC of its own, everything from zero, one mapping.
#
#   terraform init && terraform apply                     creates everything; nothing runs yet
#   make -C ../../../.. image IMAGE="$(terraform output -raw repository_url):0.1.0" PLATFORM=linux/arm64
#   docker push "$(terraform output -raw repository_url):0.1.0"
#   terraform apply -var image="$(terraform output -raw repository_url):0.1.0"

provider "aws" {} # region and credentials come from AWS's standard variables or profile

module "rowfleet" {
  source = "../.."

  image             = var.image
  mappings_dir      = "${path.root}/mappings"
  agent_environment = { AGENT_URL = "https://agent.example.com/" }
}
