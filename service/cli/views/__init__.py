"""Objects as commands print them to people."""
