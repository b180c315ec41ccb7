"""Terraform on a copy of the module, with the provider from a folder if TF_PLUGIN_DIR is set."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "infra/terraform"
CHECKOV = Path(sys.executable).parent / "../checkov/bin/checkov"


def require(found: object, missing: str, variable: str) -> None:
    """Skip with a reason if something is missing, or fail if the environment variable requires it."""
    if not found:
        (pytest.fail if os.environ.get(variable) == "1" else pytest.skip)(missing)


def require_terraform() -> None:
    """Skip or fail if the command is missing. `init` checks for the provider."""
    require(shutil.which("terraform"), "terraform is not installed", "REQUIRE_TERRAFORM")


@dataclass(frozen=True)
class Terraform:
    """A root module in a folder of its own."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> str:
        """Run a command that must succeed. Return its stdout."""
        done = self._call(*arguments)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"terraform {' '.join(arguments)}\n{said[-20_000:]}"
        return done.stdout

    def init(self, *options: str) -> None:
        """Install the provider from TF_PLUGIN_DIR or Terraform's registry. Skip or fail without it."""
        plugins = os.environ.get("TF_PLUGIN_DIR")
        place = [f"-plugin-dir={plugins}"] if plugins else []
        done = self._call("init", "-input=false", "-no-color", *place, *options)
        require(
            done.returncode == 0,
            f"terraform cannot get its provider; without its registry, set TF_PLUGIN_DIR: {done.stderr}",
            "REQUIRE_TERRAFORM",
        )

    def changes(self) -> dict[str, set[str]]:
        """The changes of a new plan: address -> changed attributes, or the action."""
        self.run("plan", "-input=false", "-no-color", "-out=plan")
        plan: dict[str, Any] = json.loads(self.run("show", "-json", "plan"))
        return {
            change["address"]: _difference(change["change"])
            for change in plan["resource_changes"]
            if change["change"]["actions"] not in (["no-op"], ["read"])
        }

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.variables, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
            capture_output=True,
            text=True,
            check=False,
        )


def _difference(change: dict[str, Any]) -> set[str]:
    if change["actions"] != ["update"]:
        return set(change["actions"])
    before, after = change["before"], change["after"]
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def copy_of_module(target: Path) -> Path:
    """Copy the module without files that Terraform wrote. Tests change the copy only."""
    leave_out = shutil.ignore_patterns(".terraform*", "*.tfstate*")
    return Path(shutil.copytree(MODULE, target, ignore=leave_out))
