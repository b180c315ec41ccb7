"""Budgets of a batch that its calls have used up, or that somebody changes, and who is told of it."""
