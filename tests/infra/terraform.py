"""Terraform as the tests run it: on a copy of the module, the provider from a folder if there is one."""

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
    """Skip with the reason when something is missing, or fail where the environment says it is required."""
    if not found:
        (pytest.fail if os.environ.get(variable) == "1" else pytest.skip)(missing)


def require_terraform() -> None:
    """Skip, or fail, where the command is missing; whether its provider can be had, `init` finds out."""
    require(shutil.which("terraform"), "terraform is not installed", "REQUIRE_TERRAFORM")


@dataclass(frozen=True)
class Terraform:
    """One root module in a folder of its own."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> str:
        """What the command says on stdout; it has to succeed."""
        done = self._call(*arguments)
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"terraform {' '.join(arguments)}\n{said[-20_000:]}"
        return done.stdout

    def init(self) -> None:
        """Get the provider, from TF_PLUGIN_DIR or from where Terraform gets it. Skips, or fails, if not."""
        plugins = os.environ.get("TF_PLUGIN_DIR")
        done = self._call(
            "init", "-input=false", "-no-color", *([f"-plugin-dir={plugins}"] if plugins else [])
        )
        require(
            done.returncode == 0,
            f"terraform cannot get its provider; without its registry, set TF_PLUGIN_DIR: {done.stderr}",
            "REQUIRE_TERRAFORM",
        )

    def changes(self) -> dict[str, set[str]]:
        """What a plan would do now: address -> attributes that it would change, or the action."""
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
    """The module without what Terraform writes beside it, so that a test leaves the work tree alone."""
    leave_out = shutil.ignore_patterns(".terraform*", "*.tfstate*")
    return Path(shutil.copytree(MODULE, target, ignore=leave_out))
