"""The ports on AWS: `sqs`, `dynamodb` and `s3`. `clients` opens them, `provision` creates their resources."""
