"""Agents: one module per way to invoke a target, behind the port `service.domain.ports.Agent`.

`open_agent` chooses the module by `invoke` of the mapping's target. To add a way to invoke:

1. a module in this folder (in `aws/` if it calls AWS) with an agent class and a function that checks the
   target's options and opens it, like `open_http` in `http.py`;
2. a builder of its calls, which the agent sends and `description.py` shows; and a line each of `AGENTS` and
   `CALLS` in `registry.py`;
3. the form of its options in `service/mapping/targets.py`, so that `rowfleet check` knows them;
4. its rows in `tests/contract/test_agents.py` and `test_agent_cells.py`, and a stand-in for its service in
   `agent_stand_ins.py`: every agent passes the same suite;
5. a section in `docs/agents.md`.

`options/` resolves and masks references in options, `wire/` has what several agents share: requests,
replies, streams, and the classification of error responses.
"""

from service.agents.registry import open_agent

__all__ = ["open_agent"]
