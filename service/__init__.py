"""rowfleet: CSV -> splitter -> rows queue -> workers -> agent -> results table -> aggregator -> CSV.

Read the modules in that order: `splitter`, `consume`, `worker`, `settle`, `aggregator`. They depend on the
five protocols in `ports`, which `aws` (the service) and `memory` (tests and simulation) implement, and
`app` is the only place that puts them together.
"""

__version__ = "0.1.0"
