"""The text of the modules: format, types, their own tests, a security scanner, and their READMEs."""

import json
import re
import subprocess

import pytest

from tests.infra.readme_tables import blocks, with_tables
from tests.infra.terraform import CHECKOV, MODULE, Terraform, require, require_terraform

EXAMPLES = sorted(path.name for path in (MODULE / "examples").iterdir())
SUBMODULES = sorted(f"modules/{path.name}" for path in (MODULE / "modules").iterdir())

each_module = pytest.mark.parametrize("name", [".", *SUBMODULES])
each_submodule = pytest.mark.parametrize("name", SUBMODULES)

SHARED = {"prefix", "tags", "kms_key_arn", "scaling"}
"""Variables of several submodules, each of which describes what it does with them."""

pytestmark = pytest.mark.terraform


def test_files_are_formatted(module):
    """`terraform fmt` would change nothing, tests and examples included."""
    module.run("fmt", "-check", "-diff", "-recursive", "-no-color")


def initialized(module: Terraform, name: str) -> Terraform:
    """One of the modules in the copy, with its provider."""
    if name == ".":
        return module
    one = Terraform(module.folder / name)
    one.init()
    return one


@each_module
def test_the_module_is_valid(module, name):
    """Types, references and arguments are valid for the provider."""
    assert json.loads(initialized(module, name).run("validate", "-json"))["diagnostics"] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_valid(module, name):
    """Each example is valid with the present module."""
    example = Terraform(module.folder / "examples" / name)
    example.init("-backend=false")
    assert json.loads(example.run("validate", "-json"))["diagnostics"] == []


@each_module
def test_the_module_keeps_its_own_tests(module, name):
    """The module's own tests pass, with a mocked provider."""
    said = initialized(module, name).run("test", "-no-color")
    files = (MODULE / name / "tests").glob("*.tftest.hcl")
    runs = sum(path.read_text("utf-8").count("\nrun ") for path in files)
    assert f"Success! {runs} passed, 0 failed." in said


@each_submodule
def test_every_variable_is_tried_with_good_and_bad_values(name):
    """Each variable has a description, a type and a test value; all except booleans have a validation."""
    tried = (MODULE / name / "tests/variables.tftest.hcl").read_text("utf-8")
    good = tried[tried.index('run "good_values_of_each"') :]
    for variable, body in blocks(MODULE / name, "variable").items():
        assert re.search(r"^  description +=", body, re.MULTILINE), variable
        assert re.search(r"^  type +=", body, re.MULTILINE), variable
        assert re.search(rf"^    {variable}\b", good, re.MULTILINE), variable
        if not re.search(r"type\s+= bool", body):
            assert "validation {" in body, variable
            assert f"var.{variable}" in tried, variable


@each_submodule
def test_the_root_passes_the_variable_on(name):
    """Variables of a submodule are variables of the root, with the same description, type and default."""
    of_root = blocks(MODULE, "variable")
    call = (MODULE / "main.tf").read_text("utf-8").split(f'module "{name.removeprefix("modules/")}" {{')[1]
    for variable, body in blocks(MODULE / name, "variable").items():
        passed = re.search(rf"^  {variable} += (.+)$", call.split("\n}")[0], re.MULTILINE)
        assert passed is not None, variable
        if passed[1] == f"var.{variable}" and variable not in SHARED:
            assert without_validations(of_root[variable]) == without_validations(body), variable


def without_validations(body: str) -> list[str]:
    """The lines of a variable without those of its validations, with single spaces."""
    body = re.sub(r"^  validation \{\n.*?^  \}\n", "", body, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(line.split()) for line in body.splitlines() if line.strip()]


@each_module
def test_nothing_names_an_account_or_a_region(name):
    """The module takes region, account and partition from the provider."""
    for path in sorted((MODULE / name).glob("*.tf")):
        code = re.sub(r"#.*|error_message\s*=.*|description\s*=.*", "", path.read_text("utf-8"))
        assert not re.search(r"\b[a-z]{2}-[a-z]+-\d\b|\b\d{12}\b|\barn:aws:", code), path.name


def test_checkov_finds_nothing():
    """Checkov finds nothing, except findings that are suppressed with a reason beside the resource."""
    require_terraform()
    require(CHECKOV.exists(), "checkov is not installed: make checkov", "REQUIRE_TERRAFORM")
    done = subprocess.run(
        [CHECKOV, "--directory", MODULE, "--framework", "terraform", "--skip-download", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    failed = [f"{found['check_id']} {found['resource']}" for found in report["results"]["failed_checks"]]
    assert failed == []
    assert report["summary"]["passed"] > 100
    for skipped in report["results"]["skipped_checks"]:
        assert len(skipped["check_result"]["suppress_comment"]) > 20, skipped["check_id"]


@each_module
def test_the_readme_lists_what_there_is(name):
    """The README's tables are those of the files; `python -m tests.infra.readme_tables` writes them."""
    text = (MODULE / name / "README.md").read_text("utf-8")
    assert with_tables(text, MODULE / name) == text
