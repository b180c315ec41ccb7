"""A user's root module that calls ours, applied to the embedded endpoint, and the plans of its changes.

The endpoint starts no tasks. The real provider decides what Terraform would do with resources that exist.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY, EmbeddedProcess
from tests.infra.autoscaling import autoscaling
from tests.infra.terraform import MODULE, Terraform, copy_of_module

IMAGE = f"000000000000.dkr.ecr.{REGION}.amazonaws.com/rowfleet:0.5.0"
IMAGE_REPOSITORY = f"arn:aws:ecr:{REGION}:000000000000:repository/rowfleet"
_SERVICES = [
    "cloudwatch", "dynamodb", "ec2", "ecr", "ecs", "events", "iam", "kms", "lambda", "logs", "s3",
    "secretsmanager", "sfn", "sns", "sqs", "ssm", "sts",
]  # fmt: skip
_CALL = "module.rowfleet."


@dataclass(frozen=True)
class Endpoints:
    """URLs of the embedded endpoint and of Application Auto Scaling."""

    aws: str
    autoscaling: str


@contextmanager
def endpoints() -> Iterator[Endpoints]:
    """Run both until the block ends."""
    process = EmbeddedProcess.start()
    try:
        with autoscaling() as url:
            yield Endpoints(process.url, url)
    finally:
        process.stop()


@dataclass(frozen=True)
class Change:
    """The planned change of a resource: actions in their order, names of attributes that differ."""

    actions: tuple[str, ...]
    attributes: frozenset[str] = frozenset()

    @property
    def is_destroyed(self) -> bool:
        """True if the present resource goes, with or without a new one in its place."""
        return "delete" in self.actions


@dataclass(frozen=True)
class Deployment:
    """A root module in a folder of its own, whose state may hold resources."""

    folder: Path
    at: Endpoints
    variables: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)

    @property
    def terraform(self) -> Terraform:
        """Terraform in the folder."""
        return Terraform(self.folder)

    def write(self) -> Deployment:
        """Write the root module, with the variables in its call of the module."""
        (self.folder / "main.tf.json").write_text(json.dumps(self._root(), indent=1), "utf-8")
        return self

    def apply(self) -> None:
        """Apply without a question."""
        self.terraform.run("apply", "-auto-approve", "-input=false", "-no-color", "-parallelism=40")

    def changed(self, folder: Path, variables: Mapping[str, Any], **resources: Any) -> Deployment:
        """A copy in `folder` with the same state and changed variables; None takes a variable away."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(".terraform"))
        (folder / ".terraform").symlink_to(self.folder / ".terraform")
        merged = {name: value for name, value in {**self.variables, **variables}.items() if value is not None}
        return Deployment(folder, self.at, merged, {**self.resources, **resources}).write()

    def plan(self) -> dict[str, Change]:
        """Address inside our module -> its planned change, without looks at what exists."""
        self.terraform.run("plan", "-refresh=false", "-input=false", "-no-color", "-out=plan")
        plan: dict[str, Any] = json.loads(self.terraform.run("show", "-json", "plan"))
        return {
            entry["address"].removeprefix(_CALL): _change(entry["change"])
            for entry in plan["resource_changes"]
            if entry["change"]["actions"] not in (["no-op"], ["read"])
        }

    def _root(self) -> dict[str, Any]:
        urls = dict.fromkeys(_SERVICES, self.at.aws) | {"applicationautoscaling": self.at.autoscaling}
        provider = {
            "region": REGION,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "s3_use_path_style": True,
            "skip_credentials_validation": True,
            "skip_metadata_api_check": True,
            "endpoints": [urls],
        }
        root = {
            "provider": {"aws": provider},
            "module": {"rowfleet": {"source": "./module", **self.variables}},
        }
        return root | ({"resource": self.resources} if self.resources else {})


def _change(change: dict[str, Any]) -> Change:
    before, after = change["before"] or {}, change["after"] or {}
    differ = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    return Change(tuple(change["actions"]), frozenset(differ | set(change.get("after_unknown") or {})))


def new_deployment(folder: Path, at: Endpoints, variables: Mapping[str, Any]) -> Deployment:
    """An initialized root module in `folder`, not applied."""
    folder.mkdir(parents=True)
    copy_of_module(folder / "module")
    made = Deployment(folder, at, variables).write()
    made.terraform.init()
    return made


def state_of_old_root(deployment: Deployment) -> None:
    """Give the deployment the state that the module left before it had submodules."""
    text = (Path(__file__).parent / "states/before_modules.json").read_text("utf-8")
    selected = json.loads(deployment.terraform.run("version", "-json"))["provider_selections"]
    provider = next(name for name in selected if name.endswith("/aws"))
    state = json.loads(text.replace("PROVIDER", provider))
    for resource in state["resources"]:
        resource["module"] = "module.rowfleet"
    (deployment.folder / "terraform.tfstate").write_text(json.dumps(state), "utf-8")


CONFIG = str(MODULE / "tests/config")
