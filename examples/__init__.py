"""Example agents and tables to try rowfleet with; README.md gives the sources of the data."""
