"""Links, settings and mappings in the documents are right."""

import re

import pytest

from service.app.settings import Settings, describe
from service.catalog.files import load_catalog
from service.mapping import Catalog
from tests.documentation.documents import DOCUMENTS, ROOT, links, title


@pytest.mark.parametrize("path", DOCUMENTS, ids=title)
def test_links_lead_somewhere(path):
    """Every relative link in a document names a file that is there."""
    for target, _ in links(path):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=title)
def test_settings_that_are_named_exist(path):
    """Every ROWFLEET_ variable in a document is one that rowfleet knows."""
    known = {line.name for line in describe(Settings())}
    for name in re.findall(r"ROWFLEET_[A-Z_]*[A-Z]", path.read_text("utf-8")):
        assert name in known, name


def test_the_mapping_in_the_readme_compiles():
    """The mapping that the README shows to new users is accepted unchanged."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        catalog = Catalog.load({"my-agent.yaml": block}, {})
        assert catalog.definition("my-agent").compile().output_fields == ("exchange",)


def test_the_mappings_that_are_shipped_compile():
    """The repository's own mappings and schemas load."""
    catalog = load_catalog(ROOT / "mappings", ROOT / "schemas")
    assert set(catalog.names) == {"airport-agent", "classification-tool"}
    for name in catalog.names:
        catalog.definition(name).compile()


def test_no_file_names_a_package_registry():
    """Locks contain hashes and no addresses, so that each machine installs from its own index."""
    for path in ROOT.glob("requirements/*.txt"):
        assert not re.search(r"https?://|index-url", path.read_text("utf-8")), path.name
