"""What goes to an agent and comes back: requests, replies, streams, and what refusals mean."""
