"""The Table port on SQLite."""
