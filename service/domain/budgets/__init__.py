"""Budgets as options state them, in words, and as JSON."""
