"""Step 8: the outcomes of a complete batch become its result files."""
