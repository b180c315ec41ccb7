"""Wiring: the parts of each role, built from settings and ports.

builder   the parts of each role of one process
limits    the limits of each role
agents    agents and rate limits of mappings
"""
