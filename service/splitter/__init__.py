"""The splitter, steps 1 to 3 of docs/protocol.md: a job becomes a batch, and its source row messages."""
