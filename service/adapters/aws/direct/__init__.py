"""The calls of the hot path without aiobotocore's request building. `client` is the entry."""
