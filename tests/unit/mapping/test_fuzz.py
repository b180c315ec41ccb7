"""Fuzzing of the loader with random files. `FUZZ_EXAMPLES=100000` makes a long run."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.errors import MappingError, RowfleetError
from service.mapping import Catalog, Problem, check
from service.mapping.syntax import forms
from service.mapping.syntax.forms import Form

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

ROOT = Path(__file__).parents[3]
MAPPING = (ROOT / "mappings/airport-agent.yaml").read_text("utf-8")
SCHEMA = (ROOT / "schemas/airport-agent.yaml").read_text("utf-8")
OTHER_KEYS = r"""
target: {type: agent, name: airport-agent, invoke: python, function: "a.b:c"}
output_mapping: n
input_mapping:
  column_mappings: {address: Address}
  static_values: {country: NO, n: 5}
  include_columns: [Ref]
  transforms: {address: [trim, upper]}
  template: "{{ address }}"
execution:
  max_concurrency: 5
  timeout_seconds: 3.5
  batch_deadline_seconds: 3600
  row_deadline_seconds: 60.5
  retry_policy: {budget_seconds: 60, max_attempts: 2, base_seconds: 1, cap_seconds: 9, jitter: full}
  tolerate: {rejected: 5%, transient: 20, any: 500, first: 30, on_exceeded: cancel}
rate_limit:
  name: fleet
  requests_per_minute: 9
  input_tokens_per_minute: 9
  output_tokens_per_minute: 9
  concurrent: 2
reuse: 7 days
keep_replies: failed
budget: {calls_per_day: 100, tokens_per_day: 5000, usd_per_day: 2.5}
approve: {sample: 20, random: true, by: 2d}
approve_if:
  success: ">= 98%"
  fill: {iata: ">= 90%"}
  cost_per_row_usd: "<= 0.01"
pricing:
  input_per_million: 0.15
  output_per_million: 1
  cached_input_per_million: 0
  cache_write_per_million: 12.5
  per_call: 0.01
  max_cost_per_call: 0.05
  currency: USD
csv:
  delimiter: tab
  encoding: cp1252
  provenance: true
  escape_formulas: false
  escape: "\\"
  comment: "#"
  skip_lines: 2
  columns: [name, city]
  blank_records: run
  bom: true
  excel: true
---
output_mappings:
  n:
    reject_if: ["^Error"]
    pending_if: ["pending"]
    not_found: [N/A]
    allow_truncated: true
    accept_errors: false
    accept_html: false
    required: [iata]
    allow_empty: true
    type: agent
    extraction_methods:
      - {method: results_array, each: true, field_mappings: {iata: "results[0].x | to_date('%d/%m/%Y')"}}
      - {method: jmespath, paths: {airport: {path: "a[?b > `1`]", transform: [first]}, distance_km: "$"}}
      - {method: structured_output, tool_name: t, field_mappings: {direction: "content | parse('(a+)+$')"}}
"""
OTHER_INPUT = """
target: {type: tool, name: t, invoke: python, function: "a.b:c"}
input_mapping: {exclude_columns: [Ref], body: {q: "{{ a }}"}}
output_mapping: {extraction_methods: [{method: jmespath, paths: {iata: x}}]}
"""
OTHER_CSV = """
target: {type: tool, name: t, invoke: python, function: "a.b:c"}
output_mapping: {extraction_methods: [{method: jmespath, paths: {iata: x}}]}
csv:
  delimiter: ";"
  columns: [Ref, City]
  skip_lines: 2
  comment: "#"
  escape: '\\'
  blank_records: run
  bom: true
"""
OTHER_SCHEMA = """
agent: other
version: 1.0
output_format: json
fields:
  - {name: iata, type: string, required: true, enum: [LHR], pattern: "[A-Z]+"}
  - name: distance_km
    type: number
    minimum: 0
    maximum: 9
    extraction: [{type: tool_result, tool: t, pattern: "(x)"}, {type: structured, path: a}]
"""
KEYS = (
    "target", "type", "name", "invoke", "url", "output_mapping", "output_mappings", "schema", "agent",
    "extraction_methods", "method", "each", "field_mappings", "paths", "transform", "reject_if", "not_found",
    "fields", "extraction", "path", "pattern", "enum", "minimum", "maximum", "csv", "delimiter", "encoding",
)  # fmt: skip
VALUES = (
    "direct", "results_array", "structured", "true", "null", "number", "date", "x", "a", "1", "-1.5e9",
    "2025-01-01", "é",
)  # fmt: skip
HUGE_NUMBERS = ["9" * 5000, "1e" + "9" * 30]
EXPRESSIONS = ["parse('(')", "$.a | trim()", "to_date('%q')", "{{ a }}", "{% for %}", "${X}"]
YAML_SYNTAX = ["&a", "*a", "!!int", "<<", "[[[[", "]", "{", "}", "'", '"', "|", ">"]
UNUSUAL_CHARACTERS = ["\ud800", "\x00", "\x85"]  # a lone surrogate, NUL, and a line break of Unicode
WORDS = st.sampled_from([*KEYS, *VALUES, *HUGE_NUMBERS, *EXPRESSIONS, *YAML_SYNTAX, *UNUSUAL_CHARACTERS])
YAMLISH = st.lists(
    WORDS | st.sampled_from([": ", "\n", "\n  ", "\n    - ", ", ", "---\n", " ", "#"]) | st.text(max_size=3),
    max_size=40,
).map("".join)


@st.composite
def mutated(draw, text):
    """A valid text with one to four pieces replaced, removed, doubled or inserted."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.sampled_from([0, 1, 2, 5, 20, 80]))
        piece = draw(st.one_of(WORDS, st.just(""), st.just(text[start:stop] * 2), st.text(max_size=2)))
        text = text[:start] + piece + text[stop:]
    return text


def load(mappings, schemas):
    """Load files. They must give either well-formed problems or a catalog that works."""
    problems = check(mappings, schemas)
    for problem in problems:
        assert isinstance(problem, Problem)
        assert problem.file in {*mappings, *schemas}
        assert problem.message
    if problems:
        with pytest.raises(MappingError) as caught:
            Catalog.load(mappings, schemas)
        assert str(caught.value) == "\n".join(str(problem) for problem in problems)
        return
    catalog = Catalog.load(mappings, schemas)
    for name in catalog.names:
        definition = catalog.definition(name)
        assert definition.compile().output_fields == catalog.extractor(name).output_fields
        assert definition.compile().digest == definition.digest
    for name in catalog.extractor_names:
        for reply in ({"results": [{"x": "01/02/2025"}], "a": [{"b": 2}]}, "IATA: LHR"):
            assert not isinstance(catalog.extractor(name).explain(reply).error, MappingError)
            try:
                catalog.extractor(name).extract(reply)
            except RowfleetError:
                continue


@FUZZ
@given(mapping=YAMLISH, schema=YAMLISH)
def test_any_text_in_the_files(mapping, schema):
    """Random text, more or less like YAML, gives problems or a working catalog."""
    load({"run.yaml": mapping}, {"s.yaml": schema})


@FUZZ
@given(mapping=mutated(MAPPING), schema=mutated(SCHEMA))
def test_the_examples_with_mistakes(mapping, schema):
    """The shipped examples with mistakes give problems or a working catalog."""
    load({"m/airport-agent.yaml": mapping}, {"s/airport-agent.yaml": schema})


@FUZZ
@given(mapping=mutated(OTHER_KEYS) | mutated(OTHER_INPUT) | mutated(OTHER_CSV), schema=mutated(OTHER_SCHEMA))
def test_every_key_with_mistakes(mapping, schema):
    """All other keys of the language, with mistakes, give problems or a working catalog."""
    load({"run.yaml": mapping}, {"s.yaml": SCHEMA, "other.yaml": schema})


def test_the_unmutated_files_are_valid():
    """The unmutated files are valid: otherwise every mutation would stop at the first mistake."""
    mappings = {
        "airport-agent.yaml": MAPPING,
        "run.yaml": OTHER_KEYS,
        "input.yaml": OTHER_INPUT,
        "csv.yaml": OTHER_CSV,
    }
    assert check(mappings, {"s.yaml": SCHEMA, "other.yaml": OTHER_SCHEMA}) == ()


def test_every_key_is_in_a_file_that_is_mutated():
    """A new key of the language has to be added to these files."""
    classes = [item for item in vars(forms).values() if isinstance(item, type) and issubclass(item, Form)]
    keys = {name for form in classes for name in form.model_fields}
    text = f"{MAPPING}\n{SCHEMA}\n{OTHER_KEYS}\n{OTHER_INPUT}\n{OTHER_CSV}\n{OTHER_SCHEMA}"
    assert len(keys) > 50
    assert {key for key in keys if not re.search(rf"\b{key}:", text)} == set()
