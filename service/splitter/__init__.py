"""Steps 1 to 3: a job becomes a batch, and its source row messages."""
