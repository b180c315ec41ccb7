"""Which mappings there are: read from folders or a bucket, checked against samples, kept up to date."""
