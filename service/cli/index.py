"""The index of commands: their order, the module of each, and its help in one sentence.

It is all that `rowfleet --help` needs: modules of commands are imported when a command is called.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command: its module in `service.cli.commands`, and the first paragraph of its help."""

    module: str
    help: str


COMMANDS = {
    "run": CommandEntry(
        "run", "Process a file on this machine. Stopped at any moment, the same command goes on."
    ),
    "local": CommandEntry(
        "local", "Keep an embedded AWS endpoint, all resources and all roles running on this machine."
    ),
    "serve": CommandEntry("serve", "Be a service process, configured by the environment; SIGTERM drains it."),
    "setup": CommandEntry(
        "serve", "Create, or check, queues, table, bucket and notification on any endpoint."
    ),
    "healthcheck": CommandEntry(
        "serve",
        "Exit 0 if the service process on this machine is alive (/livez), 1 if not. Not about being ready.",
    ),
    "scaler": CommandEntry(
        "scaler", "Set the number of tasks of each service by the work there is, once, and say why."
    ),
    "submit": CommandEntry("submit", "Start a run on a deployed or local service."),
    "status": CommandEntry("status", "How far a batch is, and what keeps it."),
    "watch": CommandEntry("status", "Follow a batch until it ends or is held; exit as `run` does."),
    "list": CommandEntry(
        "status", "The latest batches: those of this machine if it has any, or those on AWS."
    ),
    "errors": CommandEntry("errors", "Why rows failed, grouped by cause."),
    "fetch": CommandEntry(
        "fetch",
        "Write the result files of a batch, with their digests checked: output, failures and manifest.",
    ),
    "pause": CommandEntry(
        "operations", "Let no further call begin. Calls under way end, and their outcomes are kept."
    ),
    "resume": CommandEntry(
        "operations", "Go on with a paused batch. No row that has succeeded is called again."
    ),
    "approve": CommandEntry("operations", "Run the other rows of a batch whose sample waits for approval."),
    "reject": CommandEntry(
        "operations", "Cancel a batch because of its sample. The results of the sample are written."
    ),
    "cancel": CommandEntry(
        "operations", "End a batch: rows without an outcome fail as cancelled, and the results are written."
    ),
    "set": CommandEntry("operations", "Change how a batch is served, while it runs."),
    "finish": CommandEntry(
        "operations", "Write the results of a batch again, from the outcomes of its rows."
    ),
    "purge": CommandEntry(
        "operations",
        "Delete a batch that has ended: its rows, replies and results, and all else that is stored for it.",
    ),
    "redrive": CommandEntry(
        "redrive", "Run failed rows of a batch again. Filters combine; without one all failed rows run."
    ),
    "remap": CommandEntry(
        "replies.remap",
        "Take the values of a batch anew from its kept replies, by another mapping. No agent is called.",
    ),
    "check": CommandEntry(
        "check", "Compile every mapping and schema, and run every sample in mappings/samples/NAME/."
    ),
    "try": CommandEntry(
        "check", "Extract from a saved or kept agent reply: the values as they would stand in the CSV."
    ),
    "sample": CommandEntry(
        "replies.sample",
        "Write kept replies of a batch as samples of its mapping, which `check` runs from then on.",
    ),
    "plan": CommandEntry(
        "plan",
        "What would be sent for a row of a file, with secrets masked. No call, unless by --call.",
    ),
    "estimate": CommandEntry(
        "plan", "The calls, tokens, price and time of a run of a file. No call is made, unless by --sample."
    ),
    "settings": CommandEntry("settings", "Every setting: value, default, unit, and where it came from."),
    "dead-letters": CommandEntry(
        "dead_letters", "Messages that could not be handled: see them, try them again, delete them."
    ),
}
"""Every command by its name, in the order of `rowfleet --help`."""
