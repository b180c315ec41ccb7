"""The container engine of this machine, and the images that are built on it once."""

import functools
import os
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import docker
import pytest

ROOT = Path(__file__).parents[2]

# The names stay when the tests are over, and with them the layers that the next build does not have to make.
IMAGE = "rowfleet:test"
ENDPOINT_IMAGE = "rowfleet-endpoint:test"

# A bridge without a way out is no obstacle to a build: the layers are made on the machine's own network.
BUILD_FLAGS = "--network host"


@functools.cache
def engine() -> Any:
    """A client of the engine. Without one the test is skipped, or fails where REQUIRE_DOCKER=1 says so."""
    try:
        _call("docker", "version")  # docker-py leaves its socket open when nobody answers
    except (OSError, subprocess.CalledProcessError) as error:
        _give_up(f"no container engine answers: {getattr(error, 'stderr', '').strip() or error}")
    return docker.from_env()


@functools.cache
def rowfleet_image() -> str:
    """The id of the image that `make image` builds of this tree."""
    return _made("image", IMAGE)


@functools.cache
def endpoint_image() -> str:
    """The id of an image with the embedded AWS endpoint, and with it a Python."""
    return _made("endpoint-image", ENDPOINT_IMAGE)


def _made(target: str, name: str) -> str:
    images = engine().images
    try:
        _call("make", target, f"IMAGE={name}", f"BUILD_FLAGS={BUILD_FLAGS}")
    except subprocess.CalledProcessError as error:
        pytest.fail(f"make {target}:\n{error.stdout[-3000:]}{error.stderr[-3000:]}")
    return str(images.get(name).id)  # the name may be another tree's in a moment


def _call(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
