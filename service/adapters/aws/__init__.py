"""The ports on AWS: `sqs`, `dynamodb` and `s3` on the clients of `clients`, and `provision`."""
