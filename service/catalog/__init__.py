"""Mapping files: where they lie, how they are checked, and how they are reloaded while the service runs."""
