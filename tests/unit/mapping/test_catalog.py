import pytest

from service.catalog.files import load_catalog
from service.domain.errors import MappingError
from service.mapping import Catalog, CsvOptions, Definition, Execution, Problem, RetryPolicy, Target, check

FULL = """
target:
  type: agent
  name: broadband
  invoke: http
  url: ${AGENT_URL}
  headers: {Authorization: "Bearer ${secret:AGENT_TOKEN}"}
execution: {max_concurrency: 50, timeout_seconds: 30, retry_policy: {max_attempts: 2}}
csv: {delimiter: tab, encoding: cp1252, escape_formulas: false, provenance: true}
"""
NAMED = (
    "output_mappings: {broadband: {extraction_methods: [{method: direct, field_mappings: {z: z, a: a}}]}}\n"
)
DIRECT = "{method: direct, field_mappings: {a: a}}"


def methods(text, more=""):
    return f"output_mapping: {{{more}extraction_methods: [{text}]}}\n"


def test_a_run_takes_the_output_mapping_of_its_targets_name():
    """Without `output_mapping`, the one named like the target is used, also from another file."""
    catalog = Catalog.load({"run.yaml": FULL, "named.yml": NAMED}, {})
    assert catalog.names == ("run",)
    mapping = catalog.definition("run").compile()
    assert mapping.output_fields == ("z", "a")
    assert mapping.target == Target(
        "agent",
        "broadband",
        "http",
        {
            "url": "${AGENT_URL}",
            "method": "POST",
            "headers": {"Authorization": "Bearer ${secret:AGENT_TOKEN}"},
        },
    )
    assert mapping.execution == Execution(50, 30, RetryPolicy(max_attempts=2))
    assert mapping.csv == CsvOptions("\t", "cp1252", escape_formulas=False, provenance=True)
    assert mapping.extract({"a": 1}).values == {"z": None, "a": 1}


def test_one_file_may_have_a_run_and_output_mappings():
    """A file may have a run definition and output_mappings, in one document or in several."""
    for text in (FULL + NAMED, FULL + "---" + "\n" + NAMED):
        assert Catalog.load({"m/run.yaml": text}, {}).definition("run").compile().output_fields == ("z", "a")


def test_a_definition_compiles_from_its_text():
    """A definition compiles from its text alone to the same mapping, with the same order of fields."""
    definition = Catalog.load({"run.yaml": FULL + NAMED}, {}).definition("run")
    again = Definition("run", definition.text)
    assert again.digest == definition.digest == again.compile().digest
    assert len(again.digest) == 16
    assert again.compile().output_fields == ("z", "a")


def test_the_digest_does_not_depend_on_the_layout_of_the_file():
    """Comments and the order of fixed keys do not change the digest. Another field does."""
    csv, rest = "csv: {encoding: utf-8, delimiter: auto}\n", FULL.replace("csv:", "#")
    one = Catalog.load({"run.yaml": rest + NAMED + csv}, {}).definition("run")
    two = Catalog.load({"run.yaml": csv + "# comment\n" + rest + NAMED}, {}).definition("run")
    other = Catalog.load({"run.yaml": rest + NAMED.replace("z: z, ", "") + csv}, {}).definition("run")
    assert one.digest == two.digest != other.digest


def test_text_of_another_version_is_a_mapping_error():
    """A definition that this version does not understand is a MappingError, not a crash."""
    for text in (
        '{"target": 1}',
        '{"schema": 1}',
        '{"schema": null}',
        "[]",
        "{",
        '{"output_mapping": {}, "later": 1}',
        "1",
    ):
        with pytest.raises(MappingError, match="mapping 'x'"):
            Definition("x", text).compile()


def test_an_unknown_name_lists_the_known_ones():
    """The error for an unknown name lists the known ones, and says which file to add."""
    catalog = Catalog.load({"run.yaml": FULL + NAMED}, {})
    with pytest.raises(MappingError, match=r"^unknown mapping 'rum'; known: run; add mappings/rum.yaml$"):
        catalog.definition("rum")


@pytest.mark.parametrize("name", ["run.yaml", "run.yml", "mappings/run.yaml", "mappings/run"])
def test_the_name_of_a_file_is_no_name(name):
    """A name with the ending .yaml gets the hint to leave the ending out, not to add `run.yaml.yaml`."""
    catalog = Catalog.load({"run.yaml": FULL + NAMED}, {})
    with pytest.raises(MappingError, match=r"the name is 'run', without folder and extension$"):
        catalog.definition(name)
    with pytest.raises(MappingError, match=r"add mappings/tickets.yaml$"):
        catalog.definition("tickets.yaml")


def test_an_extraction_cannot_be_run():
    """It is known, and has no target."""
    text = "output_mappings: {x: {extraction_methods: [{method: direct, field_mappings: {a: $.a}}]}}\n"
    with pytest.raises(MappingError, match="'x' only extracts: add a target to its file"):
        Catalog.load({"run.yaml": text}, {}).definition("x")


def test_each_problem_names_its_place_by_keys():
    """A problem in an expression has the path of keys to it, beside file and line."""
    text = "output_mappings:\n  x:\n    extraction_methods:\n      - method: direct\n"
    text += "        field_mappings:\n          exchange: $.a |\n          'the cabinet': $..b\n"
    one, two = check({"run.yaml": text}, {})
    place = "output_mappings.x.extraction_methods[0].field_mappings"
    assert str(one).startswith(f"run.yaml:6: {place}.exchange: expression '$.a |': ends after '|'")
    assert str(two).startswith(f"run.yaml:7: {place}.\"the cabinet\": expression '$..b': two dots")


def test_every_problem_of_every_file_is_listed_once():
    """Every problem of every file has one line, sorted by file and line."""
    with pytest.raises(MappingError) as caught:
        Catalog.load(
            {
                "b.yaml": "target: {name: n, invoke: http}\nexecution:\n  max_concurency: 5\n"
                "  timeout_seconds: 0\n",
                "a.yaml": "output_mappings:\n  n:\n    extraction_methods:\n      - {method: driect}\n",
            },
            {"s.yaml": "agent: x\nagent: y\nfields: []\n"},
        )
    place = "output_mappings.n.extraction_methods[0].method"
    assert str(caught.value).splitlines() == [
        f"a.yaml:4: {place}: unknown method 'driect' (did you mean 'direct'?)",
        "b.yaml:1: 'target.url' is missing",
        "b.yaml:3: unknown key 'execution.max_concurency' (did you mean 'max_concurrency'?)",
        "b.yaml:4: execution.timeout_seconds: must be greater than 0",
        "s.yaml:2: duplicate key 'agent' (first in line 1)",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate_limit: {}\n", "names no limit: requests_per_minute"),
        ("rate_limit: {concurrent: 0}\n", "rate_limit.concurrent"),
        ("input_mapping: {transforms: {a: [trim, uper]}}\n", "input_mapping.transforms.a[1]: unknown"),
        ("input_mapping: {transforms: {a: uper}}\n", "input_mapping.transforms.a: unknown"),
        ("reuse: 7d\n", "(batch, or a number of days such as 7 days)"),
        ("rate_limit: {request_per_minute: 5}\n", "did you mean 'requests_per_minute'"),
        ("execution: {rate_limit: 1}\n", "unknown key 'execution.rate_limit'"),
        (methods(DIRECT, "reject_if: ['(?=a)'], "), "look-around"),
        (methods(DIRECT, "pending_if: ['a*'], "), "matches the empty text"),
        (methods(DIRECT, "not_found: [1], "), "not_found[0]: must be text"),
        (methods("{method: direct, each: true, field_mappings: {a: a}}"), "unknown key"),
        (methods("{method: jmespath, paths: {transform: trim}}"), "names no field"),
        (methods("{method: direct, field_mappings: {a: 1}}"), "must be text"),
        (
            methods("{method: direct, field_mappings: {a: {path: b, transfrom: c}}}"),
            "did you mean 'transform'",
        ),
        (methods(""), "must not be empty"),
        (methods(DIRECT, "required: [b], "), "required field 'b'"),
        ("output_mapping: nosuch\n", "no output mapping 'nosuch'"),
        (
            "target: {name: t, invoke: lambda}\n",
            "'target.function' is missing",
        ),
        ("target: {name: t, invoke: bedrock}\n", "'target.model' is missing"),
        ("target: {name: t, invoke: bedrock, model: m, parameters: {messages: []}}\n", "place of its own"),
        ("target: {name: t, invoke: bedrock, agent_runtime: mine}\n", "target.agent_runtime: must match"),
        (
            "target: {name: t, invoke: step_functions, state_machine: mine}\n",
            "target.state_machine: must match",
        ),
        (
            "target: {name: t, invoke: lambda, function: f, large_input: referense}\n",
            "target.large_input: must be 'reject' or 'reference'",
        ),
        (
            "target: {name: t, invoke: lambda, function: f, larg_input: reject}\n",
            "did you mean 'large_input'",
        ),
        ("target: {name: t, invoke: command, command: ls}\n", "target.command: must be a valid list"),
        ("target: {name: t, invoke: http, preset: opnai, model: m}\n", "must be 'openai' or 'anthropic'"),
        ("target: {name: t, invoke: http, preset: openai}\n", "'target.model' is missing"),
        ("target: {name: t, invoke: http, url: 'http://{{ a }}/'}\n", "must not choose the host"),
        ("target: {name: t, invoke: http, url: 'http://a/{{ b'}\n", "template, line 1"),
        ("target: {name: t, invoke: http, url: 'http://a/${secret:vault:b}'}\n", "no source 'vault'"),
        ("target: {name: t, invoke: lambda, function: f, region: '${secret:#k}'}\n", "neither ${NAME}"),
        ("execution: {retry_policy: {jitter: some}}\n", "must be 'full', 'equal' or 'none'"),
        ("target: {name: t, invoke: htp}\n", "did you mean 'http'"),
        ("target: {name: t}\n", "'target.invoke' is missing"),
        ("target: {name: t, invoke: python, function: run}\n", "target.function"),
        ("target: {name: t, invoke: python, function: 'service:f'}\n", "rename your service.py, or call"),
        ("target: {name: t, invoke: python, function: 'service.x:f'}\n", "rename your service/, or call"),
        ("target: {name: t, invoke: http, url: 'ftp://x'}\n", "no http://"),
        ("target: {name: t, invoke: http, url: 'http://${a b}'}\n", "neither ${NAME}"),
        ('target: {name: t, invoke: http, url: "http://a", headers: {X: "a\\nb"}}\n', "cannot be sent"),
        ("execution: {tolerate: {rejected: 5 percent}}\n", "use a number of rows such as 500, or a share"),
        ("execution: {tolerate: {rejcted: 5%}}\n", "did you mean 'rejected'"),
        ("execution: {tolerate: {first: -1}}\n", "'first' is -1; use a number of rows from 0"),
        ("execution: {tolerate: {on_exceeded: stop}}\n", "must be 'pause', 'cancel' or 'finish'"),
        ("execution: {max_concurrency: true}\n", "max_concurrency: must be a valid integer"),
        ("execution: {retry_policy: {base_seconds: 5, cap_seconds: 1}}\n", "less than base_seconds"),
        ("execution:\n", "must be a table"),
        ("csv: {delimiter: ab}\n", "csv.delimiter: 'ab' is not one ASCII character"),
        ("csv: {encoding: utf-99}\n", "csv.encoding: 'utf-99' is not a known encoding"),
        ("csv: {encoding: hex}\n", "csv.encoding: 'hex' is not supported"),
        ("csv: {encoding: shift_jis, delimiter: pipe}\n", "may be half of another character"),
        ("schema: {}\n", "unknown key 'schema'"),
        ("input_mapping: {exclude_columns: [a], include_columns: [b]}\n", "no effect"),
        ("input_mapping: {column_mappings: {a: A}, transforms: {b: trim}}\n", "no field 'b'"),
        ("input_mapping: {column_mappings: {a: A}, static_values: {a: 1}}\n", "mapped to a column already"),
        ("input_mapping: {transforms: {a: nosuch}}\n", "unknown function 'nosuch'"),
        ("input_mapping: {column_mappings: {prompt: A}, template: x}\n", "field 'prompt' already"),
        ("- a\n", "must be a table"),
    ],
)
def test_an_invalid_run_definition_is_reported(refused, text, words):
    """An invalid run definition is reported when it is loaded, with file and line, and once."""
    said = refused(text, whole=text.startswith("- "))
    assert words in said
    assert said.startswith("run.yaml:")
    assert len(said.splitlines()) == 1


def test_check_returns_every_problem_as_data():
    """`check` returns the problems that `Catalog.load` raises for, in the same order; () for valid files."""
    files = {"b.yaml": FULL, "a.yaml": "output_mappings:\n  n: {extraction_methods: [{method: driect}]}\n"}
    problems = check(files, {"s.yaml": "agent: x\nfields:\n  - {name: a, type: strnig}\n"})
    assert problems == (
        Problem(
            "a.yaml",
            2,
            "unknown method 'driect'",
            "did you mean 'direct'?",
            "output_mappings.n.extraction_methods[0].method",
        ),
        Problem(
            "b.yaml",
            4,
            "no output_mapping, and neither one nor a schema is named 'broadband' as the target is",
            "known: n, x",
            "target.name",
        ),
        Problem("s.yaml", 3, "unknown type 'strnig'", "did you mean 'string'?", "fields[0].type"),
    )
    with pytest.raises(MappingError) as caught:
        Catalog.load(files, {"s.yaml": "agent: x\nfields:\n  - {name: a, type: strnig}\n"})
    assert str(caught.value).splitlines() == [str(problem) for problem in problems]
    assert check({"run.yaml": FULL + NAMED}, {}) == ()


def test_duplicate_names_are_reported():
    """Two run definitions, or two output mappings, of one name are reported."""
    with pytest.raises(MappingError, match=r"a second run definition 'run' .*the first is in run.yaml"):
        Catalog.load({"run.yaml": FULL + NAMED, "run.yml": FULL}, {})
    with pytest.raises(MappingError, match="a second output mapping 'broadband'"):
        Catalog.load({"a.yaml": NAMED, "b.yaml": NAMED}, {})
    with pytest.raises(MappingError, match="cannot be a mapping's name"):
        Catalog.load({"my run.yaml": FULL + NAMED}, {})


def test_folders_are_read(tmp_path):
    """*.yaml and *.yml are read, with or without a BOM. The folder of schemas may be missing."""
    (tmp_path / "run.yaml").write_text(FULL, "utf-8-sig")
    (tmp_path / "named.yml").write_text(NAMED)
    (tmp_path / "README.md").write_text("a: [")
    assert load_catalog(tmp_path, tmp_path / "none").names == ("run",)


def test_unreadable_folders_and_files_are_named(tmp_path):
    """The error says how to name another folder, or at which byte a file is not UTF-8."""
    with pytest.raises(MappingError, match="--mappings DIR or ROWFLEET_MAPPINGS"):
        load_catalog(tmp_path / "none", tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    (tmp_path / "b.yaml").mkdir()
    with pytest.raises(MappingError) as caught:
        load_catalog(tmp_path, tmp_path)
    assert "a.yaml: not UTF-8: byte 3 is 0xff" in str(caught.value)
    assert "b.yaml: cannot be read" in str(caught.value)
