"""The text of the modules: format, types, their own tests, a security scanner, and their READMEs."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.infra.terraform import CHECKOV, MODULE, Terraform, require, require_terraform

EXAMPLES = sorted(path.name for path in (MODULE / "examples").iterdir())
MODULES = [".", *sorted(f"modules/{path.name}" for path in (MODULE / "modules").iterdir())]

each_module = pytest.mark.parametrize("name", MODULES)

pytestmark = pytest.mark.terraform


def blocks(kind: str, folder: Path) -> dict[str, str]:
    """The bodies of all top-level blocks `kind "name" { … }` in a folder, by name."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.tf")))
    return dict(re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}', text, flags=re.MULTILINE | re.DOTALL))


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
    example.init()
    assert json.loads(example.run("validate", "-json"))["diagnostics"] == []


@each_module
def test_the_module_keeps_its_own_tests(module, name):
    """The module's own tests pass, with a mocked provider."""
    said = initialized(module, name).run("test", "-no-color")
    files = (MODULE / name / "tests").glob("*.tftest.hcl")
    runs = sum(path.read_text("utf-8").count("\nrun ") for path in files)
    assert f"Success! {runs} passed, 0 failed." in said


@each_module
def test_every_variable_is_tried_with_good_and_bad_values(name):
    """Each variable has a description, a type and a test value; all except booleans have a validation."""
    tried = (MODULE / name / "tests/variables.tftest.hcl").read_text("utf-8")
    good = tried[tried.index('run "good_values_of_each"') :]
    for variable, body in blocks("variable", MODULE / name).items():
        assert re.search(r"^  description +=", body, re.MULTILINE), variable
        assert re.search(r"^  type +=", body, re.MULTILINE), variable
        assert re.search(rf"^    {variable}\b", good, re.MULTILINE), variable
        if not re.search(r"type\s+= bool", body):
            assert "validation {" in body, variable
            assert f"var.{variable}" in tried, variable


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
@pytest.mark.parametrize(("kind", "title"), [("variable", "Inputs"), ("output", "Outputs")])
def test_the_readme_lists_what_there_is(kind, title, name):
    """The README's tables list exactly the inputs and outputs, with their descriptions."""
    text = (MODULE / name / "README.md").read_text("utf-8")
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    described = {
        block: json.loads(
            re.search(r'^  description\s+= (".*")$', body, re.MULTILINE)[1].replace("$${", "${")
        )
        for block, body in blocks(kind, MODULE / name).items()
    }
    assert listed == {block: text.replace("|", "\\|") for block, text in described.items()}
