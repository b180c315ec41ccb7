"""Operators: they carry out the steps of a script, by commands and by messages, through the faulty proxy."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass

from tests.acceptance.support import Deployment, Running
from tests.chaos.operations.script import Channel, Step
from tests.chaos.operations.sightings import FINAL, Sightings

AGAIN_S = 5.0
"""Pause after which a batch that is held still is resumed again."""

DONE, REFUSED = 0, 2
"""Exit codes of a command: it was carried out, or it was refused or could not reach AWS."""

UNREACHED = ("dynamodb:", "sqs:", "cannot reach", "try again")
"""Beginnings of the sentences of a command that could not do its work."""


@dataclass
class _Command:
    step: Step
    running: Running
    since: float


class Operators:
    """Carries out steps, each when it is due. `environment` is that of the commands.

    `done` counts operations by name and end; `problems` are commands that ended as none may.
    """

    def __init__(
        self, deployment: Deployment, sightings: Sightings, steps: list[Step], environment: dict[str, str]
    ) -> None:
        self._deployment = deployment
        self._sightings = sightings
        self._steps = list(steps)
        self._environment = environment
        self._commands: list[_Command] = []
        self._messages: list[tuple[Step, str]] = []
        self._resumed: dict[str, float] = {}
        self.done: Counter[str] = Counter()
        self.longest_command_s = 0.0
        self.problems: list[str] = []

    def act(self, now_s: float) -> None:
        """Carry out what is due `now_s` seconds after the start."""
        self._sightings.look()
        for step in [step for step in self._steps if self._is_due(step, now_s)]:
            self._steps.remove(step)
            self._carry_out(step)
        for command in [command for command in self._commands if command.running.process.poll() is not None]:
            self._commands.remove(command)
            self._has_ended(command)

    def close(self, batches: list[str], now_s: float) -> bool:
        """Go on at the end: resume what is held. True once all batches have ended and all is answered."""
        self.act(now_s)
        for batch in batches:
            if self._sightings.state(batch) == "PAUSED" and time.monotonic() >= self._resumed.get(batch, 0):
                self._resumed[batch] = time.monotonic() + AGAIN_S
                channel = Channel.MESSAGE if len(self._messages) % 2 else Channel.COMMAND
                self._carry_out(Step(now_s, batch, "resume", channel=channel))
        if self._steps or self._commands:
            return False
        self._messages = [(step, id_) for step, id_ in self._messages if not self._is_answered(step, id_)]
        if self._messages:
            return False
        # An operation may have begun another round since the batches were last seen.
        return all(self._deployment.state(batch) in FINAL for batch in batches)

    @property
    def waits_for(self) -> str:
        """What has not come to its end."""
        commands = [f"{command.step.op} {command.step.batch_id}" for command in self._commands]
        messages = [f"{step.op} {step.batch_id} ({id_})" for step, id_ in self._messages]
        steps = [f"{step.op} {step.batch_id}" for step in self._steps]
        return f"commands {commands}, messages without an answer {messages}, steps not begun {steps}"

    def _is_due(self, step: Step, now_s: float) -> bool:
        state = self._sightings.state(step.batch_id)
        return step.at_s <= now_s and bool(state) and (state in FINAL or not step.at_end)

    def _carry_out(self, step: Step) -> None:
        if step.channel in {Channel.COMMAND, Channel.BOTH}:
            options = [word for name, value in step.args.items() for word in _option(name, value)]
            running = self._deployment.start(step.op, step.batch_id, *options, "--json", **self._environment)
            self._commands.append(_Command(step, running, time.monotonic()))
        if step.channel is not Channel.COMMAND:
            self.done["messages"] += 1
            id_ = f"request-{self.done['messages']}"
            self._messages.append((step, id_))
            for _ in range(2 if step.channel is Channel.TWICE else 1):
                self._deployment.send_job(op=step.op, batch_id=step.batch_id, request_id=id_, args=step.args)

    def _has_ended(self, command: _Command) -> None:
        running, step = command.running, command.step
        code = running.process.returncode
        name = {DONE: "done", REFUSED: "refused"}.get(code, f"exit {code}")
        if code == REFUSED and any(words in running.stderr for words in UNREACHED):
            name = "not reached"
        self.longest_command_s = max(self.longest_command_s, time.monotonic() - command.since)
        if code == DONE and not json.loads(running.stdout).get("control"):
            name = "unchanged"
        self.done[f"{step.op} {name}"] += 1
        if code not in {DONE, REFUSED} or "Traceback" in running.stderr or (code and not running.stderr):
            self.problems.append(f"{step}: exit {code}: {running.stderr[-2_000:]}")

    def _is_answered(self, step: Step, id_: str) -> bool:
        incarnation = self._deployment.item(step.batch_id)["incarnation"]["S"]
        item = self._deployment.item(step.batch_id, f"op#{incarnation}#{id_}")
        return bool(item)


def _option(name: str, value: object) -> list[str]:
    """A long option with its value."""
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option] if value else []
    return [option, ",".join(value) if isinstance(value, list) else str(value)]
