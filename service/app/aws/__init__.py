"""Parts of the composition root for AWS alone: the backend, the caller's identity, task protection."""
