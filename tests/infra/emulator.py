"""AWS for the apply test: ministack as a child process, whose ECS starts containers on the engine.

It listens only on the address of the engine's bridge. The provider reaches it there from this machine, and
the ECS tasks from inside their containers.
"""

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import botocore.session
from botocore.config import Config

from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from tests.infra.terraform import ROOT, require

T = TypeVar("T")

_TICK = threading.Event()


def until(condition: Callable[[], T], what: Callable[[], str], deadline_s: float = 600) -> T:
    """Wait for a truthy value of the condition and return it. After the deadline fail with `what`."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what()}"
        _TICK.wait(0.25)
    return value


def docker(*arguments: str) -> str:
    """The output of a docker command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments[:3])}: {done.stderr}"
    return done.stdout


def bridge_address() -> str:
    """The address of this machine on the engine's bridge. Skips or fails if there is none."""
    engine = (
        shutil.which("docker")
        and not subprocess.run(["docker", "version"], capture_output=True, check=False).returncode
    )
    require(engine, "no container engine answers", "REQUIRE_DOCKER")
    config = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
    address = config.get("Gateway") or str(ipaddress.ip_network(config["Subnet"])[1])
    with socket.socket() as probe:
        bound = _binds(probe, address)
    require(bound, f"the engine's bridge {address} is not on this machine", "REQUIRE_DOCKER")
    return address


def _binds(probe: socket.socket, address: str) -> bool:
    try:
        probe.bind((address, 0))
    except OSError:
        return False
    return True


def build_image(name: str) -> None:
    """Build the image with credentials in its environment.

    Tasks of ministack's ECS get an address for credentials that botocore refuses; on ECS it is 169.254.170.2.
    """
    base = f"{name}-base"
    _run(["make", "image", f"IMAGE={base}", "BUILD_FLAGS=--network host"])
    credentials = f"ENV AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}"
    _run(["docker", "build", "--tag", name, "-"], f"FROM {base}\n{credentials}\n")


def _run(command: list[str], stdin: str = "") -> None:
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@dataclass(frozen=True)
class Emulator:
    """A running ministack."""

    url: str
    log: Path

    def client(self, service: str) -> Any:
        """A botocore client for a service."""
        return botocore.session.get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )


@contextmanager
def emulator(address: str, folder: Path) -> Iterator[Emulator]:
    """Run ministack on `address`, with ECS tasks on the engine, until the block ends."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    # the settings of `service.cli.embedded`, except for the address and the engine
    environment = {
        "AUTH": "false",
        "BIND_HOST": address,
        "MINISTACK_HOST": address,
        "GATEWAY_PORT": str(port),
        "USE_SSL": "0",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
        "STATE_DIR": str(folder / "state"),
        "TMPDIR": str(folder),
    }
    log = folder / "emulator.log"
    with log.open("wb") as sink:
        child = subprocess.Popen(
            [sys.executable, "-m", "ministack"], env={**os.environ, **environment}, stdout=sink, stderr=sink
        )
        try:
            made = Emulator(f"http://{address}:{port}", log)
            until(lambda: _answers(made.url), lambda: log.read_text()[-2000:])
            yield made
        finally:
            child.terminate()
            child.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_ministack/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
