"""The command line. `main` is what `rowfleet` runs."""
