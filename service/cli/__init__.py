"""The command line: `main.main` is the `rowfleet` command."""
