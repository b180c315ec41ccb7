"""Replies of agents, kept with the outcomes of their rows: written in packs, and read again."""
