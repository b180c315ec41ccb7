"""Create or check the resources of a deployment: queues, table, bucket."""
