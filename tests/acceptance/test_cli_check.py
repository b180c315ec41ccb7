"""`rowfleet check`: every file and every sample, a line per problem."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.agents.wire.reply_bodies import parse_reply
from service.catalog.check import check_files
from service.catalog.files import read_mapping_files
from tests.acceptance.support import Cli

ROOT = Path(__file__).parents[2]
BROKEN = ROOT / "tests" / "fixtures" / "broken"

# A broken file, the line that is named, and what is said of it.
CASES = {
    # YAML
    "mappings/alias-bomb": (1, "more than 20000 values"),
    "mappings/bad-syntax": (3, "not YAML"),
    "mappings/control-character": (2, "not YAML"),
    "mappings/duplicate-key": (4, "duplicate key 'template' — first in line 3"),
    "mappings/empty": (1, "holds nothing — target: …"),
    "mappings/merge-key": (4, "merge keys (<<) are not supported — write the keys out"),
    "mappings/nested-too-deeply": (1, "nested more than 60 levels deep"),
    "mappings/not-utf-8": (2, "not UTF-8: byte 78 is 0xe9 — save the file as UTF-8"),
    "mappings/tab-indentation": (3, "not YAML"),
    "mappings/tag": (3, "tag 'tag:yaml.org,2002:python/name:os.system' is not supported"),
    "mappings/sequence-tag": (3, "is not supported — write the value without !tags"),
    "mappings/secret-in-static-values": (4, "${secret:API_KEY} would be sent as it stands — the environment"),
    "mappings/top-level-list": (1, "must be a table of keys and values — target: …"),
    "mappings/top-level-text": (1, "must be a table of keys and values — target: …"),
    "mappings/unquoted-colon": (6, "put text that holds ': ' in quotes"),
    "mappings/unquoted-reference": (1, "not YAML"),
    # keys, names and values
    "mappings/bad-delimiter": (7, "',;'"),
    "mappings/bad-encoding": (7, "'utf-9'"),
    "mappings/bad-function": (1, "target.function"),
    "mappings/bad-header": (6, "'Bearer token' cannot be sent"),
    "mappings/bad-reference": (1, "neither ${NAME} nor ${secret:NAME}"),
    "mappings/bad-type": (1, "target.type: must be 'agent' or 'tool'"),
    "mappings/bad-url": (1, "'agent.example.org/ask' is no http:// or https:// address — or ${NAME}"),
    "mappings/exclude-beside-mappings": (2, "exclude_columns has no effect beside column_mappings"),
    "mappings/missing-url": (1, "'target.url' is missing"),
    "mappings/negative-timeout": (7, "execution.timeout_seconds: must be greater than 0"),
    "mappings/no-attempts": (7, "execution.retry_policy.max_attempts: must be greater than or equal to 1"),
    "mappings/no-target": (1, "'target' is missing"),
    "mappings/number-as-text": (7, "execution.max_concurrency: must be a valid integer"),
    "mappings/unknown-invoke": (1, "unknown invoke 'htttp' — did you mean 'http'?"),
    "mappings/unknown-key": (
        8,
        "unknown key 'execution.timeout_second' — did you mean 'timeout_seconds'?",
    ),
    "mappings/unknown-key-at-the-top": (7, "unknown key 'input_mappings' — did you mean 'input_mapping'?"),
    # extraction
    "mappings/back-reference": (6, r"invalid escape sequence: \1 — patterns run in linear time"),
    "mappings/dollar-inside-a-path": (6, "$ is the root and can only begin a path"),
    "mappings/guard-matching-everything": (3, "'(error)*' matches the empty text"),
    "mappings/look-ahead": (6, "(?= — patterns run in linear time on google-re2, which has no look-around"),
    "mappings/method-without-fields": (4, "extraction_methods[0].field_mappings' is missing"),
    "mappings/method-without-name": (4, "'method' is missing — known: direct, jmespath"),
    "mappings/no-methods": (3, "extraction_methods: must not be empty"),
    "mappings/no-values-at-all": (4, "paths names no field"),
    "mappings/not-a-constant": (6, "the arguments of default() must be constants"),
    "mappings/nothing-extracts": (1, "no output_mapping"),
    "mappings/required-field-nobody-gives": (3, "'prize' — did you mean 'price'?"),
    "mappings/unclosed-quote": (6, "is a closing ' missing?"),
    "mappings/unknown-function": (6, "unknown function 'lenght' — did you mean 'length'?"),
    "mappings/unknown-method": (4, "unknown method 'tool_results' — did you mean 'tool_result'?"),
    "mappings/unknown-output-mapping": (2, "no output mapping 'prize'"),
    "mappings/unknown-transform": (6, "unknown function 'to_numbr' — did you mean 'to_number'?"),
    "mappings/wrong-argument-count": (6, "replace() takes 2 argument(s) after the value, not 1"),
    # input
    "mappings/call-in-template": (3, "a call is not allowed — a template has {{ values }}"),
    "mappings/loop-in-template": (3, "a loop ('for') is not allowed — a template has {{ values }}"),
    "mappings/template-syntax": (3, "template, line 1: unexpected '}'"),
    "mappings/transform-of-no-field": (4, "no field 'nmae'"),
    "mappings/undefined-name-in-template": (4, "only what is named passes — did you mean 'name'?"),
    # schemas
    "schemas/enum-of-another-type": (7, "enum: 'cheap' is not of type integer"),
    "schemas/extraction-without-pattern": (8, "fields[0].extraction[0].pattern' is missing"),
    "schemas/look-behind": (10, "(?<= — patterns run in linear time on google-re2, which has no look-around"),
    "schemas/minimum-above-maximum": (7, "minimum 10 is greater than maximum 1"),
    "schemas/no-agent": (1, "'agent' is missing"),
    "schemas/pattern-on-a-number": (7, "'pattern' does not apply to type number — rules of this type: enum"),
    "schemas/second-field": (7, "a second field 'price' — one per name"),
    "schemas/unknown-extraction": (8, "unknown extraction type 'tool_results' — did you mean 'tool_result'?"),
    "schemas/unknown-rule": (7, "unknown key 'fields[0].min' — did you mean 'minimum'?"),
    "schemas/unknown-type": (6, "unknown type 'decimal' — known: boolean"),
}
TOGETHER = {"mappings/duplicate-name-2": (2, "a second output mapping 'price' — the first is in")}
"""Problems that exist only beside another file, duplicate-name-1."""

GOOD = """target: {type: tool, name: price, invoke: http, url: 'http://agent.example.org/'}
output_mapping:
  extraction_methods:
    - method: tool_result
      tool_name: find_price
      field_mappings: {price: "$.content | parse('Price: (.+)') | to_number()"}
"""
REPLY = {
    "messages": [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "1", "name": "find_price", "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "Price: 12.50"}]},
    ]
}


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """A folder with an empty folder of mappings."""
    made = Cli(tmp_path, {})
    yield made
    made.close()


def sample(cli: Cli, name: str, reply: object, expected: object = None) -> None:
    """A recorded reply of the mapping `price`."""
    folder = cli.folder / "mappings" / "samples" / "price"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(reply))
    if expected is not None:
        (folder / f"{name}.expected.json").write_text(json.dumps(expected, indent=2))


# -- broken files --------------------------------------------------------------------------------------


def test_every_broken_file_is_a_case():
    """Every broken file has an expected problem below, and there are more than 24."""
    files = {path.relative_to(BROKEN).with_suffix("").as_posix() for path in BROKEN.glob("*/*.yaml")}
    assert files == {*CASES, *TOGETHER, "mappings/duplicate-name-1"}
    assert len(files) > 24


@pytest.mark.parametrize("case", CASES)
def test_a_broken_file_alone(case, tmp_path):
    """Each gives one problem with its line, and a hint where there is one."""
    for kind in ("mappings", "schemas"):
        (tmp_path / kind).mkdir()
    copy = Path(shutil.copy(BROKEN / f"{case}.yaml", tmp_path / f"{case}.yaml"))
    files = read_mapping_files(tmp_path / "mappings", tmp_path / "schemas")
    done = check_files(files, tmp_path / "mappings", 1_000, parse_reply)
    line, words = CASES[case]
    assert [(problem.file, problem.line) for problem in done.problems] == [(copy.as_posix(), line)]
    assert words in f"{done.problems[0].message} — {done.problems[0].hint}"


def test_all_broken_files_together(cli):
    """One readable line per problem on stdout, in the order of files; their number on stderr. Exit code 2."""
    shutil.copytree(BROKEN, cli.folder / "broken")
    done = cli("check", "--mappings", "broken/mappings", "--schemas", "broken/schemas")
    assert done.code == 2
    assert "Traceback" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(CASES) + 1
    for case, line in zip(sorted(CASES | TOGETHER, key="{}.yaml".format), lines, strict=True):
        number, words = (CASES | TOGETHER)[case]
        assert line.startswith(f"broken/{case}.yaml:{number}: ")
        assert words in line
        assert re.fullmatch(r"[^\x00-\x1f\x7f]{20,400}", line)
    assert done.stderr.endswith(f": {len(lines)} problems\n")
    assert len(done.stderr.splitlines()) == 1


def test_problems_as_json(cli):
    """JSON for editors and CI: place, text and hint of each problem, and the counts. Exit code 2."""
    cli.write("mappings/price.yaml", GOOD.replace("to_number", "to_numbr"))
    sample(cli, "cheap", REPLY)
    done = cli("check", "--json")
    assert done.code == 2
    assert done.stderr == ""
    assert done.json == {
        "ok": False,
        "problems": [
            {
                "file": "mappings/price.yaml",
                "line": 6,
                "place": "output_mapping.extraction_methods[0].field_mappings.price",
                "what": "unknown function 'to_numbr'",
                "hint": "did you mean 'to_number'?",
            }
        ],
        "mappings": 1,
        "schemas": 0,
        "samples": 1,
    }


def test_files_that_cannot_be_read(cli):
    """Bytes that are no text, a folder named like a file, a broken link: one problem each. Exit code 2."""
    cli.write("mappings/bytes.yaml", b"a: b\nc: \xff\n")
    (cli.folder / "mappings" / "folder.yaml").mkdir()
    (cli.folder / "mappings" / "link.yaml").symlink_to("nowhere")
    done = cli("check")
    assert done.code == 2
    first, second, third = done.stdout.splitlines()
    assert first.startswith("mappings/bytes.yaml:2: not UTF-8: byte 8 is 0xff — ")
    assert second.startswith("mappings/folder.yaml:1: cannot be read")
    assert third.startswith("mappings/link.yaml:1: cannot be read")


def test_control_characters_of_files_are_escaped(cli):
    """Line breaks and escape sequences in a name stay within their line."""
    cli.write("mappings/price.yaml", '"a\\nb\\e[31m": 1\n' + GOOD)
    done = cli("check")
    assert len(done.stdout.splitlines()) == 1
    assert "\x1b" not in done.stdout


def test_folders_that_are_not_there(cli):
    """A missing folder of mappings or schemas: one line that names the option for another one."""
    for arguments, words in (
        (["--mappings", "nowhere"], "nowhere is no folder with mappings"),
        (["--schemas", "nowhere"], "nowhere is no folder with schemas"),
    ):
        done = cli("check", *arguments)
        assert done.code == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"rowfleet: {words}")
        assert len(done.stderr.splitlines()) == 1


def test_a_folder_without_any_file(cli):
    """Nothing to check is an error: the folder is probably the wrong one."""
    done = cli("check")
    assert done.code == 2
    assert done.stdout.startswith("mappings:1: no *.yaml file is there — name another folder with --mappings")


# -- samples -------------------------------------------------------------------------------------------


def test_everything_is_right(cli):
    """Nothing on stdout; on stderr the number of checked files. Exit code 0."""
    cli.write("mappings/price.yaml", GOOD)
    sample(cli, "cheap", REPLY, {"output_data": {"price": 12.5}})
    done = cli("check")
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr == "1 file, 1 run, 0 extractions, 0 schemas, 1 sample: all right\n"
    assert cli("check", "--json").json == {
        "ok": True,
        "problems": [],
        "mappings": 1,
        "schemas": 0,
        "samples": 1,
    }


def test_a_sample_that_gives_something_else(cli):
    """The line names sample, field, expected value and actual value. Exit code 2."""
    cli.write("mappings/price.yaml", GOOD)
    sample(cli, "cheap", REPLY, {"output_data": {"price": 13}})
    done = cli("check")
    assert done.code == 2
    place = "mappings/samples/price/cheap"
    record = f"rowfleet try price {place}.json --json >{place}.expected.json"
    assert done.stdout == (
        f"{place}.expected.json:3: sample: price: expected 13, got 12.50 — "
        f"correct the mapping or, if this result is correct, record it as expected: {record}\n"
    )


def test_the_output_of_try_is_an_expectation(cli):
    """The command in the hint records an expectation that holds, for rows that succeed and rows that fail."""
    cli.write("mappings/price.yaml", GOOD)
    sample(cli, "cheap", REPLY)
    sample(cli, "none", {"messages": []})
    for name, code in (("cheap", 0), ("none", 3)):
        place = f"mappings/samples/price/{name}"
        done = cli("try", "price", f"{place}.json", "--json")
        assert done.code == code
        cli.write(f"{place}.expected.json", done.stdout)
    assert cli("check").code == 0


def test_samples_of_files_that_do_not_compile(cli):
    """Samples of a broken mapping are not run, and stderr says so. Broken sample files are still reported."""
    cli.write("mappings/price.yaml", GOOD.replace("to_number", "to_numbr"))
    sample(cli, "cheap", REPLY, {"output_data": {"price": 13}})
    cli.write("mappings/samples/price/other.json", "{")
    done = cli("check")
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [
        "mappings/price.yaml:6",
        "mappings/samples/price/other.json:1",
    ]
    assert done.stderr.endswith("; samples run once everything compiles\n")


def test_the_repository_itself(cli):
    """The repository's own mappings, schemas and samples have no problem."""
    done = cli("check", "--mappings", ROOT / "mappings", "--schemas", ROOT / "schemas", "--json")
    assert done.json["problems"] == []
    assert done.json["samples"] >= 8
    texts = {path.stem: path.read_text("utf-8") for path in (ROOT / "mappings").glob("*.yaml")}
    assert 'tool_name: "browser_broadband"' in texts["examples"]
