"""Terms of the completion protocol: batches, rows, outcomes, messages, errors, ports. Pure."""
