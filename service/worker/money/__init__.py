"""The price of calls."""
