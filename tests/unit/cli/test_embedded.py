"""The embedded endpoint: its port, its end, its data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.adapters.aws.clients import AwsOptions, open_clients
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY, EmbeddedProcess, embedded_endpoint
from service.domain.errors import ConfigError

LISTENING = "0A"


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        threading.Event().wait(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def listeners(pid: int) -> list[tuple[str, int]]:
    """The addresses and ports (TCP and UDP) on which a process listens, from /proc."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(str(entry.readlink()))
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes and (fields[3] == LISTENING or table.startswith("udp")):
                address, port = fields[1].split(":")
                found.append((address, int(port, 16)))
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_it_listens_on_one_port_of_the_loopback_only() -> None:
    """The endpoint cannot be reached from another machine."""
    process = EmbeddedProcess.start()
    try:
        assert listeners(process.pid) == [("0100007F", process.port)]
        assert process.url == f"http://127.0.0.1:{process.port}"
    finally:
        process.stop()
    assert not is_alive(process.pid)


def test_a_port_in_use_is_an_error() -> None:
    """A second endpoint on a port raises ConfigError that names the port; the first one goes on."""
    process = EmbeddedProcess.start()
    try:
        with pytest.raises(ConfigError, match=rf"port {process.port} is in use: .*--port"):
            EmbeddedProcess.start(process.port)
        assert is_alive(process.pid)
    finally:
        process.stop()


def test_modules_in_the_current_folder_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's folder `service`, or a module with the name of one that the endpoint needs."""
    for name in ("service", "ministack"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a module of the user')")
    (tmp_path / "argparse.py").write_text("raise SystemExit('a module of the user')")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    EmbeddedProcess.start().stop()


@pytest.mark.parametrize("name", ["ministack", "hypercorn"])
def test_a_missing_package_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without ministack or hypercorn ConfigError names the extra to install."""
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(f"raise ModuleNotFoundError('no module', name={name!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"needs the package {name}: pip install 'rowfleet\[local\]'"):
        EmbeddedProcess.start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent(number: signal.Signals) -> None:
    """The endpoint ends when its parent is killed or terminated."""
    script = (
        "import signal; from service.cli.embedded import EmbeddedProcess\n"
        "process = EmbeddedProcess.start(); print(process.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.send_signal(number)
        parent.wait()
        until(lambda: not is_alive(pid))


def test_it_ends_on_sigterm() -> None:
    """The child ends on SIGTERM."""
    process = EmbeddedProcess.start()
    os.kill(process.pid, signal.SIGTERM)
    until(lambda: not is_alive(process.pid))
    process.stop()


def test_it_has_its_own_process_group() -> None:
    """A terminal's Ctrl-C reaches only the parent, which drains before it ends the endpoint."""
    process = EmbeddedProcess.start()
    try:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    finally:
        process.stop()


def test_it_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a data folder its files are deleted at its end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    EmbeddedProcess.start().stop()
    assert list(tmp_path.iterdir()) == []


async def test_a_data_folder_is_kept(tmp_path: Path) -> None:
    """Stored data is available after a restart with the same folder."""
    for run in range(2):
        async with (
            embedded_endpoint(data_dir=tmp_path / "data") as url,
            open_clients(AwsOptions(REGION, url, ACCESS_KEY, SECRET_KEY)) as clients,
        ):
            if run == 0:
                await clients.s3.create_bucket(Bucket="kept")
                await clients.s3.put_object(Bucket="kept", Key="one", Body=b"1")
                await clients.sqs.create_queue(QueueName="kept")
            else:
                assert (await clients.s3.head_object(Bucket="kept", Key="one"))["ContentLength"] == 1
                assert "QueueUrl" in await clients.sqs.get_queue_url(QueueName="kept")


def test_unsaved_data_is_an_error(tmp_path: Path) -> None:
    """If data cannot be saved, `stop` raises ConfigError in one line with data, folder and cause."""
    process = EmbeddedProcess.start(data_dir=tmp_path)
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(ConfigError) as caught:
        process.stop()
    for word in ("could not save", "dynamodb", str(tmp_path), "File exists", "--data"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
