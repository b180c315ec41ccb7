"""Commands that operate on a batch: what they refuse before AWS is called."""

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.domain.errors import UsageError


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--class", "slow"], "there is no class 'slow' of failures"),
        (["--class", ""], "--class names nothing"),
        (["--rows", "5-3"], "'5-3' is no row number"),
        (["--succeeded"], "name them with --rows"),
        (["--unread", "--rows", "1"], "leave out --rows"),
        (["--rows-from", "missing.txt"], "there is no file missing.txt"),
        (["--rows", "1", "--rows-from", "rows.txt"], "not by both"),
        (["--rows-from", "empty.txt"], "the list of rows is empty"),
    ],
)
def test_a_redrive_that_makes_no_sense_is_refused(tmp_path, monkeypatch, options, reason):
    """By one sentence that names the option."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.txt").write_text("1\n2-3\n", "utf-8")
    (tmp_path / "empty.txt").write_text("\n", "utf-8")
    result = CliRunner().invoke(app, ["redrive", "demo#e1", *options])
    assert isinstance(result.exception, UsageError)
    assert reason in str(result.exception)
