"""The version of the image in documents and in the Terraform module is the one of the service."""

import re
from pathlib import Path

import pytest

from service import __version__
from tests.documentation.documents import ROOT

PATTERNS = ("README.md", "docs/**/*.md", "examples/**/*.md", "infra/**/*.md", "infra/**/*.tf")
FILES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern) if ".terraform" not in path.parts)

# Three numbers after the name of a repository: rowfleet:1.2.3, "$repository:1.2.3", …repository_url):1.2.3
_TAG = re.compile(r"(?:rowfleet|repository\w*)[^\s:]{0,3}:(\d+\.\d+\.\d+)(?![.\d])")


def tags(path: Path) -> list[str]:
    """The versions of images that a file names."""
    return _TAG.findall(path.read_text("utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_images_have_the_version_of_the_service(path: Path) -> None:
    """A reader who copies a line gets the image that this tree builds."""
    assert set(tags(path)) <= {__version__}


def test_the_places_are_found() -> None:
    """The page that leads to a deployment names the image several times."""
    assert len(tags(ROOT / "docs" / "deploy.md")) >= 4
