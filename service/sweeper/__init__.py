"""Steps 9 and 10: stuck batches are moved on, dead letters are drained."""
