"""A rate limit that holds for the whole fleet: GCRA over a record that all workers share."""
