"""Names of files, modules, make targets, errors, tests and events in the documents exist."""

import asyncio
import builtins
import re
from pkgutil import resolve_name

import pytest

import service
from service.domain import errors
from tests.documentation.documents import DOCUMENTS, ROOT, anchors, commands, links, spans, title
from tests.simulation.ablations import ABLATIONS
from tests.simulation.faults import Fault
from tests.simulation.invariants import INVARIANTS
from tests.simulation.scenario import StorageFault

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=title)

FOLDERS = ("benchmarks", "docs", "examples", "infra", "requirements", "service", "tests")
"""Folders of the repository. `mappings/` and `schemas/` are left out: documents name files of users there."""

CODE = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*") if ".terraform" not in path.parts]
FILE_NAMES = {path.name for path in CODE}
SERVICE = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "service").rglob("*.py")))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
ERRORS_OF_OTHERS = {"CancelledError", "FunctionError"}
"""Names that end like our errors: of asyncio, and a key of the answer of Lambda."""

FAULTS = {*Fault.__members__, *StorageFault.__members__}

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text("utf-8")
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")


def first_cells(text: str, heading: str) -> list[str]:
    """Texts in backticks in the first column of the tables under a heading."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    cells = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@each_document
def test_paths_that_are_named_exist(path):
    """A path in backticks that begins with a folder of the repository leads to a file or folder."""
    for span in spans(path):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]*", span):
            assert (ROOT / span).exists(), span


@each_document
def test_files_that_are_named_without_their_folder_exist(path):
    """A Python or Terraform file in backticks has a name that some file of the repository has."""
    for span in spans(path):
        if re.fullmatch(r"\w+\.(py|tf)", span):
            assert span in FILE_NAMES, span


@each_document
def test_modules_that_are_named_exist(path):
    """A dotted name that begins with `service` is a module, or a name in one."""
    for span in spans(path):
        if (match := re.fullmatch(r"(service(\.\w+)+)(\(\))?", span)) and not span.endswith(".tf"):
            assert resolve_name(match[1]) is not None, span


@each_document
def test_make_targets_that_are_named_exist(path):
    """`make X` in code is a target of the Makefile."""
    for command in commands(path):
        if match := re.match(r"make ([a-z][a-z-]*)", command):
            assert match[1] in TARGETS, command


@each_document
def test_parts_that_links_lead_to_exist(path):
    """A link with `#name` leads to a heading or a marked term of that name."""
    for target, anchor in links(path):
        document = path.parent / target if target else path
        if anchor and document.suffix == ".md":
            assert anchor in anchors(document), f"{target}#{anchor}"


@each_document
def test_errors_that_are_named_exist(path):
    """A class name that ends with `Error` is one of ours or of Python."""
    for span in spans(path):
        if re.fullmatch(r"[A-Z]\w+Error", span) and span not in ERRORS_OF_OTHERS:
            assert any(hasattr(module, span) for module in (errors, builtins, asyncio)), span


def test_files_that_docstrings_and_comments_name_exist():
    """A file that the service's modules refer to is there: in the repository, in service/, or nearby."""
    name = re.compile(r"`([\w./-]+\.(?:py|md))`|\b((?:docs|tests)/[\w./-]+\.(?:py|md))")
    for module in (ROOT / "service").rglob("*.py"):
        bases = (ROOT, ROOT / "service", module.parent, module.parent.parent)
        for match in name.finditer(module.read_text("utf-8")):
            file = match[1] or match[2]
            exists = any((base / file).exists() for base in bases) or file in FILE_NAMES
            assert exists, f"{module.relative_to(ROOT)}: {file}"


def test_every_folder_is_in_the_reading_order():
    """The package's docstring and docs/architecture.md name every folder, in the same order."""
    folders = {path.parent.name for path in (ROOT / "service").glob("*/__init__.py")}
    stack = service.__doc__.split("Or read the stack")[1].split("\n\n")[0]
    order = re.findall(r"`(\w+)`", stack)
    assert set(order) == folders
    page = ARCHITECTURE.split("**The stack**")[1].split("A folder imports")[0]
    assert re.findall(r"`(\w+)`", page) == order
    assert folders <= set(re.findall(r"^\| `service/(\w+)/", ARCHITECTURE, re.MULTILINE))


@pytest.mark.parametrize(("word", "known"), [("ablation", ABLATIONS), ("fault", FAULTS)])
def test_names_in_the_failure_table_exist(word, known):
    """The protocol names faults and safeguards as the simulation does."""
    lists = re.findall(rf"\b{word}s? ((?:`\w+`(?:, )?)+)", PROTOCOL)
    named = {name for listed in lists for name in re.findall(r"`(\w+)`", listed)}
    assert len(named) >= 8
    assert named <= set(known)


def test_invariants_in_the_guarantees_exist():
    """Each safeguard is noticed by an invariant of the simulation, and every ablation is in the table."""
    section = GUARANTEES.split("\n## The safeguards")[1].split("\n## ", maxsplit=1)[0]
    noticed = re.findall(r"\| \d+, `(\w+)` \|$", section, re.MULTILINE)
    assert len(noticed) == len(ABLATIONS)
    assert set(noticed) <= set(INVARIANTS)


def test_parts_of_the_simulation_that_contributing_names_exist():
    """Names in the instructions for a new fault, invariant or ablation are in the simulation's modules."""
    section = CONTRIBUTING.split("\n## Simulation\n")[1].split("\n## ", maxsplit=1)[0]
    modules = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests" / "simulation").glob("*.py"))
    names = re.findall(r"`([A-Z]\w+)`", section)
    assert len(names) >= 5
    for name in names:
        assert re.search(rf"^(class {name}\b|{name}\b)", modules, re.MULTILINE), name


def test_log_events_in_the_operations_page_exist():
    """The events that an operator is told to look for are logged."""
    events = first_cells(OPERATIONS, "Logs")
    assert len(events) >= 10
    for event in events:
        assert f'"{event}"' in SERVICE, event


def test_older_words_in_the_glossary_exist():
    """The events that the glossary explains are still in the code."""
    section = GLOSSARY.split("\n## Words on the outside that stay\n")[1]
    events = [
        name
        for names, where in re.findall(r"^\| (.+?) \| (.+?) \|", section, re.MULTILINE)
        if where.startswith("log event")
        for name in re.findall(r"`([a-z_]+)`", names)
    ]
    assert len(events) >= 8
    for event in events:
        assert f'"{event}"' in SERVICE, event
