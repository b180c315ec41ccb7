"""The text of the module: format, types, its own tests, a security scanner, and its README."""

import json
import re
import subprocess

import pytest

from tests.infra.terraform import CHECKOV, MODULE, Terraform, require, require_terraform

EXAMPLES = sorted(path.name for path in (MODULE / "examples").iterdir())

pytestmark = pytest.mark.terraform


def blocks(kind: str) -> dict[str, str]:
    """The bodies of all top-level blocks `kind "name" { … }`, by name."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(MODULE.glob("*.tf")))
    return dict(re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}', text, flags=re.MULTILINE | re.DOTALL))


def test_files_are_formatted(module):
    """`terraform fmt` would change nothing, tests and examples included."""
    module.run("fmt", "-check", "-diff", "-recursive", "-no-color")


def test_the_module_is_valid(module):
    """Types, references and arguments are valid for the provider."""
    assert json.loads(module.run("validate", "-json"))["diagnostics"] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_valid(module, name):
    """Each example is valid with the present module."""
    example = Terraform(module.folder / "examples" / name)
    example.init()
    assert json.loads(example.run("validate", "-json"))["diagnostics"] == []


def test_the_module_keeps_its_own_tests(module):
    """The module's own tests pass, with a mocked provider."""
    said = module.run("test", "-no-color")
    runs = sum(path.read_text("utf-8").count("\nrun ") for path in (MODULE / "tests").glob("*.tftest.hcl"))
    assert f"Success! {runs} passed, 0 failed." in said


def test_every_variable_is_tried_with_good_and_bad_values():
    """Each variable has a description, a type and a test value; all except booleans have a validation."""
    tried = (MODULE / "tests/variables.tftest.hcl").read_text("utf-8")
    good = tried[tried.index('run "good_values_of_each"') :]
    for name, body in blocks("variable").items():
        assert re.search(r"^  description +=", body, re.MULTILINE), name
        assert re.search(r"^  type +=", body, re.MULTILINE), name
        assert re.search(rf"^    {name}\b", good, re.MULTILINE), name
        if not re.search(r"type\s+= bool", body):
            assert "validation {" in body, name
            assert f"var.{name}" in tried, name


def test_nothing_names_an_account_or_a_region():
    """The module takes region, account and partition from the provider."""
    for path in sorted(MODULE.glob("*.tf")):
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


@pytest.mark.parametrize(("kind", "title"), [("variable", "Inputs"), ("output", "Outputs")])
def test_the_readme_lists_what_there_is(kind, title):
    """The README's tables list exactly the inputs and outputs, with their descriptions."""
    text = (MODULE / "README.md").read_text("utf-8")
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    described = {
        name: json.loads(re.search(r'^  description\s+= (".*")$', body, re.MULTILINE)[1].replace("$${", "${"))
        for name, body in blocks(kind).items()
    }
    assert listed == {name: text.replace("|", "\\|") for name, text in described.items()}
