"""The aggregator, step 8 of docs/protocol.md: the outcomes of a complete batch become its result files."""
