"""Steps 4 to 7: a row message becomes an agent call, an outcome, and a settled row."""
