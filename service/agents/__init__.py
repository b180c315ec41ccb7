"""The ways to invoke an agent: one file per way, and `registry` to choose among them.

`open_agent` turns the `target` of a run definition into something that keeps the `Agent` protocol of
`ports`. To add a way: a file with an `open` function like those in `http` and `python`, a line in
`registry.AGENTS`, a form in `mapping.targets`, and its rows in `tests/contract`.
"""

from service.agents.registry import open_agent

__all__ = ["open_agent"]
