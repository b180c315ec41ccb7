"""Create or check what a deployment needs: queues, table, bucket."""
