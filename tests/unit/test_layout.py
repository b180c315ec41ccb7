"""The layout: unit tests mirror the folders of service/, names are unique, imports have no cycle."""

import ast
from collections import Counter, defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICE = ROOT / "service"
UNIT = ROOT / "tests" / "unit"
MOST_MODULES = 14
"""So many names are read at a glance."""

OTHER_TESTS = {
    "batch/commits/test_spending.py": "the calls that group commits count",
    "adapters/aws/test_requests_to_aws.py": "parameters of calls, which all adapters of AWS promise",
    "agents/wire/streams/test_fuzz_streams.py": "any bytes as a stream; `make fuzz` runs it for longer",
    "agents/wire/streams/test_halves.py": "halves of a character in two events, in streams of all kinds",
    "agents/wire/streams/test_providers.py": "streams of all providers beside each other",
    "aggregator/test_lease.py": "the lease of a batch, as aggregators use it",
    "csvio/test_csvio.py": "scanner, reader and writer, which are used together",
    "csvio/test_csvio_properties.py": "properties of reader and writer together",
    "mapping/replies/test_normalise_properties.py": "properties that hold for any reply",
    "mapping/test_fuzz.py": "the loader with random files; `make fuzz` runs it for longer",
    "runtime/test_consumer_bytes.py": "one limit of the consumer, with fixtures of its own",
    "splitter/test_steering.py": "operations on batches that are being split",
    "test_layout.py": "the layout itself",
    "test_pipeline.py": "all roles together",
    "test_rounds.py": "all roles together, over several rounds of a batch",
    "test_stopping.py": "roles that are told to stop in the middle of their work",
    "worker/test_deadlines.py": "deadlines, which worker, attempts and dead letters keep together",
    "worker/test_hostile_messages.py": "malformed messages on the queues of all roles",
    "worker/test_reuse_locks.py": "several workers that share the records of reuse",
}
"""Tests that are named after no module, each with its reason."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the service: its dotted name and its file. A package has the name of its folder."""
    files = sorted(SERVICE.rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files
    }


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def imported(name: str) -> set[str]:
    """The modules of the service that a module imports, wherever in it.

    `service/__init__.py` holds the version and imports nothing, so it is left out.
    """
    found: set[str] = set()
    for node in ast.walk(tree(modules()[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name`: the name may be a module, else it comes from the package itself
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {module if module in modules() else node.module for module in submodules}
    return (found & set(modules())) - {"service", name}


def test_unit_tests_mirror_the_service() -> None:
    """`tests/unit/a/test_b.py` tests the module or folder `b` of `service/a/`, or is listed with a reason."""
    places = [path.relative_to(UNIT) for path in sorted(UNIT.rglob("test_*.py"))]
    strays = [place.as_posix() for place in places if not has_module(place)]
    assert set(strays) - set(OTHER_TESTS) == set()


def has_module(place: Path) -> bool:
    """True if a test file is named after a module, or after a folder of modules."""
    tested = SERVICE / place.parent / place.stem.removeprefix("test_")
    return tested.is_dir() or tested.with_suffix(".py").exists()


@pytest.mark.parametrize("place", [Path(name) for name in OTHER_TESTS], ids=str)
def test_a_test_that_mirrors_no_module_lies_in_a_folder_of_the_service(place: Path) -> None:
    """A listed test exists, has a folder of its own in the service, and no module of its name there."""
    assert (UNIT / place).exists()
    assert (SERVICE / place.parent).is_dir()
    assert not has_module(place)


def test_folders_can_be_read_at_a_glance() -> None:
    """No folder of the service holds more than 14 modules, and each is a package with a docstring."""
    count = Counter(path.parent for path in modules().values() if path.name != "__init__.py")
    for folder, number in count.items():
        assert number <= MOST_MODULES, folder
        assert ast.get_docstring(tree(folder / "__init__.py")), folder


def test_public_classes_have_names_of_their_own() -> None:
    """No two public classes of the service have one name."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, path in modules().items():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """The imports of the service have an order in which every module comes after those that it needs."""
    try:
        TopologicalSorter({name: imported(name) for name in modules()}).prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise AssertionError(cycle) from None
