"""Commands on the kept replies of a batch."""
