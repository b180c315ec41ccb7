"""Budgets over the fleet: each call begins inside a reservation, which all workers take from one ledger."""
