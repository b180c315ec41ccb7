"""Estimates of a run, before any call is made or from the calls of a sample.

call_tally      a file -> the calls of a run, and the bytes of their inputs
last_runs       the mapping's earlier runs in the store: tokens and time per call
estimate        all of these -> tokens, price and time, each from low to high
sample_figures  a sample that was run -> its tokens, price and time, and those of the other rows
"""
