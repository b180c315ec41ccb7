"""`rowfleet try`: a mapping on a saved reply."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.support import BIN, Cli

MAPPING = """target: {type: agent, name: pricer, invoke: http, url: 'http://agent.example.org/'}
output_mapping:
  required: [price]
  pending_if: [still working]
  extraction_methods:
    - method: tool_result
      tool_name: find_price
      field_mappings:
        price: "$.content | parse('Price: ([0-9.]+)') | to_number()"
        note: "$.content | parse('Note: (.+)')"
    - method: jmespath
      paths:
        price: text.price
        note: text.note
        link: text.link
"""
NAMED = """output_mappings:
  direct-price:
    extraction_methods: [{method: direct, field_mappings: {price: $.price}}]
"""


def reply(**text: object) -> str:
    """A reply whose tool found a price."""
    result = {"type": "tool_result", "tool_use_id": "1", "content": "Price: 12.50 GBP"}
    use = {"type": "tool_use", "id": "1", "name": "find_price", "input": {}}
    messages = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    usage = {"input_tokens": 1200, "output_tokens": 34}
    return json.dumps({"messages": messages, "usage": usage, "text": text})


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """A folder with the run `pricer`, the extraction `direct-price`, and a reply."""
    made = Cli(tmp_path, {})
    made.write("mappings/pricer.yaml", MAPPING)
    made.write("mappings/named.yaml", NAMED)
    made.write("reply.json", reply(note="dear", link="=HYPERLINK('x')"))
    yield made
    made.close()


def lines(text: str) -> list[str]:
    """The lines with each run of blanks replaced by one."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_values_as_in_the_csv(cli):
    """Aligned values as in output.csv: numbers with their digits, formulas escaped. Exit code 0."""
    done = cli("try", "pricer", "reply.json")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == (
        "SUCCESS  pricer\nprice   12.50\nnote    dear\nlink    '=HYPERLINK('x')\ntokens  1,200 in, 34 out\n"
    )


def test_formulas_of_a_run_that_wants_them(cli):
    """The csv options of the mapping apply."""
    cli.write("mappings/pricer.yaml", MAPPING + "csv: {escape_formulas: false}\n")
    assert "link =HYPERLINK('x')" in lines(cli("try", "pricer", "reply.json").stdout)


def test_explain(cli):
    """`--explain` shows the source of each value, and why the sources before gave none."""
    done = cli("try", "pricer", "reply.json", "--explain")
    assert done.code == 0
    assert lines(done.stdout) == [
        "SUCCESS pricer",
        "price 12.50",
        "from tool_result[0] $.content | parse('Price: ([0-9.]+)') | to_number()",
        "note dear",
        "tried tool_result[0] $.content | parse('Note: (.+)')",
        "the pattern found nothing in 16 characters",
        "from jmespath[1] text.note",
        "link '=HYPERLINK('x')",
        "from jmespath[1] text.link",
        "tokens 1,200 in, 34 out",
    ]


def test_a_field_without_a_value(cli):
    """The field is listed as without a value, with every source that was tried."""
    cli.write("reply.json", reply(note="dear"))
    done = cli("try", "pricer", "reply.json", "--explain")
    assert done.code == 0
    assert "link no value" in lines(done.stdout)
    assert "tried jmespath[1] text.link" in lines(done.stdout)
    assert "the path gives null" in lines(done.stdout)


def test_as_json(cli):
    """JSON with status, values, error, usage and explanation; numbers keep their digits. Exit code 0."""
    done = cli("try", "pricer", "reply.json", "--json")
    assert done.code == 0
    assert '"price": 12.50,' in done.stdout
    answer = done.json
    assert list(answer) == ["status", "output_data", "error", "usage", "explain"]
    assert answer["status"] == "SUCCESS"
    assert answer["output_data"] == {"price": 12.5, "note": "dear", "link": "=HYPERLINK('x')"}
    assert answer["error"] is None
    assert answer["usage"] == {"input_tokens": 1200, "output_tokens": 34}
    assert answer["explain"][1] == {
        "field": "note",
        "value": "dear",
        "source": "jmespath[1]",
        "path": "text.note",
        "tried": [
            {
                "source": "tool_result[0]",
                "path": "$.content | parse('Note: (.+)')",
                "why": "the pattern found nothing in 16 characters",
            }
        ],
    }


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("{}", "ExtractionError: the reply is an empty object; allow_empty: true takes it"),
        ("I could not find it.", "ExtractionError: no value for required field price"),
        ('{"status": "still working on it"}', "ReplyPendingError: still working on it"),
    ],
)
def test_a_row_that_would_fail(cli, body, error):
    """The error as in the column `_error`, and no values. Exit code 3."""
    cli.write("reply.json", body)
    done = cli("try", "pricer", "reply.json")
    assert done.code == 3
    assert lines(done.stdout)[0] == "FAILED pricer"
    assert lines(done.stdout)[1].startswith(f"error {error}")
    assert done.stderr == "--explain shows what was tried for each field\n"
    answer = cli("try", "pricer", "reply.json", "--json")
    assert answer.code == 3
    assert answer.json["status"] == "FAILED"
    assert answer.json["output_data"] == {}
    assert answer.json["error"].startswith(error)


def test_a_named_extraction_and_a_reply_from_stdin(cli):
    """`-` reads the reply from standard input."""
    answer = subprocess.run(
        [BIN / "rowfleet", "try", "direct-price", "-"],
        input=b'{"price": 0.1000000000000000055}',
        capture_output=True,
        cwd=cli.folder,
        env=cli.env,
        check=True,
    )
    assert lines(answer.stdout.decode()) == ["SUCCESS direct-price", "price 0.1000000000000000055"]


def test_a_reply_that_should_have_been_json(cli):
    """The reply is taken for text, as a worker would take it, and stderr says so."""
    cli.write("reply.json", '{"price": 1,}')
    done = cli("try", "direct-price", "reply.json")
    assert done.code == 3
    assert "the reply is no JSON and is taken for text" in done.stderr


def test_control_characters_of_replies_are_escaped(cli):
    """Escape sequences are printed as text; line breaks stay in their column."""
    cli.write("reply.json", json.dumps({"price": "a\x1b]0;title\x07b\nc[bold]"}))
    done = cli("try", "direct-price", "reply.json")
    assert done.stdout == "SUCCESS  direct-price\nprice  a\\x1b]0;title\\x07b\n       c[bold]\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prizer", "reply.json"], ("unknown mapping", "'prizer'", "direct-price, pricer")),
        (["pricer", "nothing.json"], ("nothing.json", "No such file")),
        (["pricer", "mappings"], ("mappings", "directory")),
        (["pricer", "reply.json", "--mappings", "nowhere"], ("nowhere", "--mappings DIR")),
        (["pricer", "reply.json", "--schemas", "nowhere"], ("nowhere", "--schemas DIR")),
    ],
)
def test_bad_usage(cli, arguments, words):
    """One line on stderr that names the known mappings or the cause. Exit code 2."""
    done = cli("try", *arguments)
    assert (done.code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    for word in words:
        assert word in done.stderr


def test_a_reply_larger_than_workers_take(cli):
    """A worker would refuse the reply; the error names the setting. Exit code 2."""
    done = cli("try", "pricer", "reply.json", ROWFLEET_HTTP__MAX_REPLY_BYTES="100")
    assert done.code == 2
    assert "ROWFLEET_HTTP__MAX_REPLY_BYTES" in done.stderr


def test_mappings_that_do_not_compile(cli):
    """The problems are printed, as by every command that needs the mappings. Exit code 2."""
    cli.write("mappings/pricer.yaml", MAPPING.replace("to_number", "to_numbr"))
    done = cli("try", "pricer", "reply.json")
    assert done.code == 2
    assert "mappings/pricer.yaml:9" in done.stderr
    assert "to_numbr" in done.stderr


@pytest.mark.parametrize("width", [40, 80])
def test_on_a_terminal(cli, width):
    """No line is wider than the terminal, and no text is lost."""
    cli.write("reply.json", reply(note=" ".join(f"word{n}" for n in range(50)), link="x" * 200))
    shown = on_terminal(cli, width, "try", "pricer", "reply.json", "--explain")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(len(line.rstrip()) for line in plain) <= width
    text = "".join("".join(plain).split())
    assert "".join(f"word{n}" for n in range(50)) in text
    assert "x" * 200 in text
    assert "\x1b[" in shown


def on_terminal(cli: Cli, width: int, *arguments: str) -> str:
    """The output of a command on a terminal."""
    ours, theirs = pty.openpty()
    env = {**cli.env, "TERM": "xterm-256color", "COLUMNS": str(width)}
    process = subprocess.Popen([BIN / "rowfleet", *arguments], cwd=cli.folder, env=env, stdout=theirs)
    os.close(theirs)
    data = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # Linux says end of file on a terminal so
            break
        if not part:
            break
        data += part
    os.close(ours)
    assert process.wait() == 0
    return data.decode()
