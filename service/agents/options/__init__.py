"""Inputs for opening an agent: the target's options with references resolved, and limits of the process."""
