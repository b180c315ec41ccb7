"""The content and the configuration of the image."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from service import __version__
from tests.container.engine import ROOT, engine

pytestmark = pytest.mark.docker

Once = Callable[..., tuple[int, str]]

MAX_MB = 240
"""Base image included; 215 MB when this was written."""

STOPPED_EARLY = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "service.cli":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Finder())
sys.argv = ["rowfleet", "--help"]
from service.__main__ import main
main()
"""
"""The command line, which gets SIGTERM when it begins to import its commands."""


@pytest.fixture
def config(image: str) -> dict[str, Any]:
    """The image's configuration."""
    return dict(engine().images.get(image).attrs["Config"])


def test_start_and_stop_of_a_container(config: dict[str, Any]) -> None:
    """A container runs `rowfleet serve` without a shell. SIGTERM stops it, and it has a health check."""
    assert (config["Entrypoint"], config["Cmd"]) == (["rowfleet"], ["serve"])
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "rowfleet", "healthcheck"]
    assert list(config["ExposedPorts"]) == ["8080/tcp"]


def test_labels_name_version_and_revision(config: dict[str, Any]) -> None:
    """Version and revision are those of the tree that it was built from."""
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["version"] == __version__
    assert re.fullmatch("[0-9a-f]{40}", labels["revision"])
    assert labels["title"] == "rowfleet"
    assert labels["base.name"]
    assert labels["base.digest"] == labels["base.name"].partition("@")[2]
    assert datetime.fromisoformat(labels["created"]).tzinfo


def test_the_list_of_packages_is_that_of_the_lock(once: Once) -> None:
    """`sbom.json` has every package of the lock in its version, and rowfleet itself, in CycloneDX."""
    code, output = once("/opt/rowfleet/sbom.json", entrypoint="cat")
    assert code == 0, output
    listed = json.loads(output)
    assert listed["bomFormat"] == "CycloneDX"
    parts = [*listed["components"], listed["metadata"]["component"]]
    found = {(re.sub("[._]", "-", part["name"].lower()), part.get("version")) for part in parts}
    lock = (ROOT / "requirements/runtime.txt").read_text("utf-8")
    locked = set(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    assert found == locked | {("rowfleet", __version__)}


def test_nothing_of_the_builder_is_in_the_image(config: dict[str, Any], image: str) -> None:
    """Environment and history have neither pip's settings nor addresses of package indexes."""
    history = " ".join(layer["CreatedBy"] for layer in engine().images.get(image).history())
    assert "HEALTHCHECK" in history
    assert "PIP_" not in history
    assert not [variable for variable in config["Env"] if variable.startswith("PIP_")]


def test_the_image_is_small(image: str) -> None:
    """The size stays below its limit."""
    assert engine().images.get(image).attrs["Size"] < MAX_MB * 1_000_000


def test_nothing_can_be_installed_or_built(once: Once) -> None:
    """The image has neither pip nor a compiler."""
    search = (
        "import shutil, importlib.util as u; "
        "print(u.find_spec('pip'), *map(shutil.which, ['pip', 'gcc', 'make']))"
    )
    for python in ("/opt/rowfleet/bin/python", "/usr/local/bin/python"):
        assert once("-c", search, entrypoint=python) == (0, "None None None None\n")


def test_the_user_is_not_root_and_can_write_nothing(once: Once) -> None:
    """The user can write no file of the service, and is numeric: Kubernetes can verify it is not root."""
    search = "id -u; find /opt /srv -writable -not -type l | head -3"
    assert once("-c", search, entrypoint="sh") == (0, "10001\n")


def test_bytecode_is_there(once: Once) -> None:
    """Every module is compiled; a container with a read-only root would compile it at each start."""
    search = (
        "import pathlib, importlib.util as u; "
        "print([str(p) for p in pathlib.Path('/opt/rowfleet/lib').rglob('*.py') "
        "if not pathlib.Path(u.cache_from_source(p)).exists()])"
    )
    assert once("-c", search, entrypoint="python") == (0, "[]\n")


def test_the_shipped_mappings_are_there(once: Once) -> None:
    """`check` finds mappings, schemas and samples in the working directory, without a problem."""
    code, output = once("check")
    assert code == 0, output
    assert "all right" in output


def test_a_stop_during_the_start_ends_the_process(once: Once) -> None:
    """SIGTERM ends the process during its imports. Without a handler, process 1 would ignore the signal."""
    code, output = once("-c", STOPPED_EARLY, entrypoint="python")
    assert (code, output) == (143, "")


def test_a_wrong_setting_ends_the_container_with_a_sentence(once: Once) -> None:
    """Exit code 2 and the name of the variable, also from the health check if it is a setting of its own."""
    for command, variable in (("serve", "ROWFLEET_HEALTH__PRT"), ("healthcheck", "ROWFLEET_HEALTH__PORT")):
        code, output = once(command, environment={variable: "eighty"})
        assert code == 2, output
        assert "ROWFLEET_HEALTH__PORT" in output
        assert "Traceback" not in output
