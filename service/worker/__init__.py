"""The worker, steps 4 to 7 of docs/protocol.md: a row message becomes an agent call and an outcome."""
