"""The Objects port on files and SQLite."""
