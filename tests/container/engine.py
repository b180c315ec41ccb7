"""The container engine of this machine, and the images that are built once per session."""

import functools
import os
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import docker
import pytest

ROOT = Path(__file__).parents[2]

# The images stay after the tests, so that the next build reuses their layers.
IMAGE = "rowfleet:test"
ENDPOINT_IMAGE = "rowfleet-endpoint:test"

# Builds use the machine's own network, since the bridge may have no way to the internet.
BUILD_FLAGS = "--network host"


@functools.cache
def engine() -> Any:
    """A client of the engine. Without an engine the test is skipped, or fails if REQUIRE_DOCKER=1."""
    try:
        _call("docker", "version")  # docker-py would leave its socket open if no engine answers
    except (OSError, subprocess.CalledProcessError) as error:
        _give_up(f"no container engine answers: {getattr(error, 'stderr', '').strip() or error}")
    return docker.from_env()


@functools.cache
def rowfleet_image() -> str:
    """The id of the image that `make image` builds of this tree."""
    return _made("image", IMAGE)


@functools.cache
def endpoint_image() -> str:
    """The id of an image with the embedded AWS endpoint, which includes Python."""
    return _made("endpoint-image", ENDPOINT_IMAGE)


def _made(target: str, name: str) -> str:
    images = engine().images
    try:
        _call("make", target, f"IMAGE={name}", f"BUILD_FLAGS={BUILD_FLAGS}")
    except subprocess.CalledProcessError as error:
        pytest.fail(f"make {target}:\n{error.stdout[-3000:]}{error.stderr[-3000:]}")
    return str(images.get(name).id)  # the id, since another checkout may take the name


def _call(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
