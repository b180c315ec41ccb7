"""Batches as commands reach them: in the store of this machine, or on AWS."""
