"""The commands: a module for each, or for a few that are close. `service.cli.index` lists them."""
