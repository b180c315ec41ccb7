"""Fixtures: copies of the Terraform module."""

from pathlib import Path

import pytest

from tests.infra.terraform import Terraform, copy_of_module, require_terraform


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """An initialized copy of infra/terraform that no test changes."""
    require_terraform()
    made = Terraform(copy_of_module(tmp_path_factory.mktemp("infra") / "terraform"))
    made.init()
    return made


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of infra/terraform that a test may change."""
    return copy_of_module(tmp_path / "terraform")
