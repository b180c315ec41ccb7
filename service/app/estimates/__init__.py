"""Estimates of a run, before any call is made.

call_tally   a file -> the calls of a run, and the bytes of their inputs
last_runs    the mapping's earlier runs in the store: tokens and time per call
estimate     all of these -> tokens, price and time, each from low to high
"""
