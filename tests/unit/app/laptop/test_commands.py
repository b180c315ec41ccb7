"""The keys by which the same command is known again."""

from dataclasses import replace

import pytest

from service.domain.model import is_name
from tests.unit.app.laptop.conftest import people


@pytest.mark.parametrize("change", ["name", "place"])
def test_the_name_of_the_file_is_no_part_of_the_command(laptop, change):
    """The bytes are."""
    first = laptop.command(laptop.write(people("ann"), "in.csv"))
    if change == "place":
        (laptop.folder / "sub").mkdir()
    second = laptop.command(laptop.write(people("ann"), "sub/in.csv" if change == "place" else "copy.csv"))
    assert first.key == second.key


def test_keys_differ_by_what_they_are_for(laptop):
    """Another limit is another command on the same file; another extraction makes the same calls."""
    path = laptop.write(people("ann", "bob"))
    whole, first = laptop.command(path), laptop.command(path, limit=1)
    assert whole.key != first.key
    assert whole.whole_key == first.whole_key
    assert whole.sending_key != first.sending_key
    laptop.key = "other"
    changed = laptop.command(path)
    assert changed.key != whole.key
    assert changed.whole_key != whole.whole_key
    assert changed.sending_key == whole.sending_key


@pytest.mark.parametrize("name", ["in.csv", "über mäßig.csv", "---.csv", "a" * 200 + ".csv", ".csv"])
def test_execution_ids_are_names(laptop, name):
    """They begin with what can be read of the file's name, and no two are alike."""
    command = laptop.command(laptop.write(people("ann")))
    command = replace(command, source=replace(command.source, name=name))
    ids = {command.new_execution_id(1_700_000_000_000) for _ in range(3)}
    assert len(ids) == 3
    assert all(is_name(id_) for id_ in ids)
