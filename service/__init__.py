"""rowfleet: every row of a CSV through any agent or tool, exactly once in the result.

    CSV ─▶ splitter ─▶ rows queue ─▶ worker ─▶ agents ─▶ batch (outcomes) ─▶ aggregator ─▶ CSV

Read the flow: `splitter`, `worker`, `agents`, `aggregator`, `sweeper`.

Or read the stack, in which a folder imports only folders before it: `domain`, `runtime`, `csvio`, `mapping`,
`catalog`, `batch`, `recovery`, `steering`, the four roles `splitter`, `worker`, `aggregator`, `sweeper`, then
`events`, `scaler`, `adapters`, `agents`, `app`, `cli`.

docs/architecture.md has a table of the folders, docs/protocol.md the ten steps that docstrings refer to, and
docs/glossary.md the terms.
"""

__version__ = "0.1.0"
