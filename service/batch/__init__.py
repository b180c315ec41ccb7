"""What several roles do to a batch: read its source, commit outcomes, see that it is complete."""
