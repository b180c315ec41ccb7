"""The sweeper, steps 9 and 10 of docs/protocol.md: stuck batches go on, dead letters are drained."""
