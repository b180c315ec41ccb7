"""Statements in the JSON or the text of an error: its names, its status, its pause, and that it is final."""
