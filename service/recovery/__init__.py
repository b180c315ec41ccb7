"""Rows without an outcome, found in one pass over table and source, and sent again or failed."""
