# Values that are not known before other resources of the same configuration are made.

mock_provider "aws" {
  source = "./tests/mocks"
}

run "a_key_and_a_bucket_can_be_planned" {
  command = plan

  module {
    source = "./tests/same_configuration"
  }
}
