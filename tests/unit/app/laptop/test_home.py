"""The folder of a store."""

import stat

import pytest

from service.app.laptop.home import Home, local_user
from service.domain.errors import UsageError


def test_the_folder_is_private_and_ignored(tmp_path):
    """Only its owner may read it, and git ignores all of it. A file of the user's is not replaced."""
    home = Home(tmp_path / "a" / ".rowfleet")
    assert not home.exists
    home.create()
    assert home.exists
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    ignore = home.folder / ".gitignore"
    assert ignore.read_text() == "*\n"
    ignore.write_text("mine\n")
    home.create()
    assert ignore.read_text() == "mine\n"


def test_a_folder_that_cannot_be_made(tmp_path):
    """The error names the variable for another one."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="ROWFLEET_HOME"):
        Home(tmp_path / "file" / ".rowfleet").create()


def test_a_user_has_a_name():
    """Also in a container without a user database."""
    assert local_user()
