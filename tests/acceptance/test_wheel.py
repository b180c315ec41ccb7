"""The wheel in an environment that has nothing but its run-time requirements."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from service import __version__
from tests.acceptance.support import BIN, HttpAgent

pytestmark = pytest.mark.verify

ROOT = Path(__file__).parents[2]
MAPPING = """target: {type: agent, name: up, invoke: http, url: "${AGENT_URL}/"}
output_mapping:
  extraction_methods: [{method: direct, field_mappings: {category: $.category}}]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the working tree."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with the wheel and what it requires, without extras.

    The requirements are links to the packages of this environment, so nothing is fetched.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    here = Path(metadata.distribution("typer").locate_file("")).resolve()
    for name in required("rowfleet", set()):
        for part in {Path(file).parts[0] for file in metadata.files(name) or ()} - {"..", "__pycache__"}:
            if not (packages / part).exists():
                (packages / part).symlink_to(here / part)
    python = folder / "bin" / "python"
    install = ["-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    return python.parent


def required(name: str, seen: set[str]) -> Iterator[str]:
    """The distributions that one needs without extras, and those that they need."""
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        # an extra's requirements have a marker that only holds with the extra
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if needed and requirement.name not in seen:
            seen.add(requirement.name)
            yield requirement.name
            yield from required(requirement.name, seen)
            for extra in requirement.extras:
                raise AssertionError(f"{name} needs {requirement.name}[{extra}]: follow extras here as well")


@pytest.fixture
def home(tmp_path: Path, agent: HttpAgent) -> Path:
    """A user's folder, which has a package `service`, a module of that name, and a mapping."""
    (tmp_path / "service").mkdir()
    for path in ("service/__init__.py", "service/cli.py", "service.py"):
        (tmp_path / path).write_text("raise SystemExit('a module of the user was imported')\n")
    (tmp_path / "mappings").mkdir()
    (tmp_path / "mappings" / "up.yaml").write_text(MAPPING)
    (tmp_path / "in.csv").write_text("name\nann\ncid\n")
    return tmp_path


def rowfleet(
    scripts: Path, home: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command of the environment in the user's folder."""
    return subprocess.run(
        [scripts / "rowfleet", *arguments],
        cwd=home, env=user_environment() | environment, check=False, text=True, capture_output=True,
    )  # fmt: skip


def user_environment() -> dict[str, str]:
    """The variables of this process, without those that lead to other modules or to AWS."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}


def test_the_wheel_is_typed(wheel: Path) -> None:
    """With the marker for type checkers, and nothing but the package."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "service/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"service", "rowfleet"}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--version"], f"rowfleet {__version__}\n"),
        (["--help"], "Run every row of a CSV"),
        (["run", "--help"], "--mapping"),
        (["settings"], "ROWFLEET_TABLE"),
    ],
)
def test_a_command_needs_no_extra(scripts: Path, home: Path, arguments: list[str], shown: str) -> None:
    """Nor does a user's own `service` get in its way."""
    done = rowfleet(scripts, home, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout


def test_mappings_are_checked_without_extras(scripts: Path, home: Path) -> None:
    """The same command that a user runs in a repository's checks."""
    done = rowfleet(scripts, home, "check")
    assert (done.returncode, done.stderr) == (
        0,
        "1 file, 1 run, 0 extractions, 0 schemas, 0 samples: all right\n",
    )


def test_run_needs_no_extra(scripts: Path, home: Path, agent: HttpAgent) -> None:
    """Nor do the commands about its batch, and none of them needs a region of AWS."""
    done = rowfleet(scripts, home, "run", "in.csv", "--mapping", "up", AGENT_URL=agent.url)
    assert done.returncode == 0, done.stderr
    assert "SUCCEEDED" in done.stdout
    assert (home / "in.output.csv").read_text().count("\n") == 3
    listed = json.loads(rowfleet(scripts, home, "list", "--json").stdout)
    assert [batch["state"] for batch in listed] == ["SUCCEEDED"]


def test_the_emulator_names_the_extra(scripts: Path, home: Path, agent: HttpAgent) -> None:
    """As `local` does."""
    done = rowfleet(scripts, home, "run", "in.csv", "--mapping", "up", "--emulator", AGENT_URL=agent.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("needs the package hypercorn: pip install 'rowfleet[local]'\n")
    assert done.stderr.count("\n") == 1


def test_local_names_the_extra_that_it_needs(scripts: Path, home: Path) -> None:
    """In one sentence, with the line for pip."""
    done = rowfleet(scripts, home, "local", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "rowfleet: the embedded AWS endpoint needs the package hypercorn: pip install 'rowfleet[local]'\n"
    )


def test_local_takes_no_module_of_the_user(home: Path) -> None:
    """Where the extra is installed. The first line on stdout is there once all roles run."""
    command = [BIN / "rowfleet", "local", "--port", "0"]
    environment = user_environment()
    with subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True) as local:
        assert local.stdout is not None
        assert local.stdout.readline().startswith("export AWS_ENDPOINT_URL=http://127.0.0.1:")
        local.terminate()
    assert local.returncode == 0
