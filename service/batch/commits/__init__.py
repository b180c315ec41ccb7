"""Group commit: outcomes, their counts and the calls made for them, in transactions."""
