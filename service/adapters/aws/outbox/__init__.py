"""The outbox on DynamoDB: its items, and transactions that change a batch and add to it."""
