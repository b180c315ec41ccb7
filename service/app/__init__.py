"""The composition root: settings -> clients -> ports -> roles -> a process.

`wiring` is the only module that constructs roles. The package imports nothing itself, so that the health
check of a container starts quickly.
"""
