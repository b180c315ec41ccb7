"""The Table port on DynamoDB: `keys` has the layout of the table, `dynamodb` the port."""
