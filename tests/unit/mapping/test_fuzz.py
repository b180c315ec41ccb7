"""Fuzzing of the loader with random files. `FUZZ_EXAMPLES=100000` makes a long run."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.errors import MappingError, RowfleetError
from service.mapping import Catalog, Problem, check

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

ROOT = Path(__file__).parents[3]
MAPPING = (ROOT / "mappings/airport-agent.yaml").read_text("utf-8")
SCHEMA = (ROOT / "schemas/airport-agent.yaml").read_text("utf-8")
GUARDED = r"""
target: {type: agent, name: airport-agent, invoke: python, function: "a.b:c"}
output_mapping: n
csv: {delimiter: tab, encoding: cp1252, provenance: true}
---
output_mappings:
  n:
    reject_if: ["^Error"]
    pending_if: ["pending"]
    not_found: [N/A]
    allow_truncated: true
    accept_errors: false
    required: [iata]
    extraction_methods:
      - {method: results_array, each: true, field_mappings: {iata: "results[0].x | to_date('%d/%m/%Y')"}}
      - {method: jmespath, paths: {airport: {path: "a[?b > `1`]", transform: [first]}, distance_km: "$"}}
      - {method: structured_output, tool_name: t, field_mappings: {direction: "content | parse('(a+)+$')"}}
"""
WORDS = st.sampled_from(
    [
        *("target", "type", "name", "invoke", "url", "output_mapping", "output_mappings", "schema", "agent"),
        *(
            "extraction_methods",
            "method",
            "direct",
            "results_array",
            "each",
            "true",
            "null",
            "field_mappings",
        ),
        *(
            "paths",
            "transform",
            "parse('(')",
            "$.a | trim()",
            "to_date('%q')",
            "reject_if",
            "not_found",
            "fields",
        ),
        *(
            "extraction",
            "structured",
            "path",
            "pattern",
            "enum",
            "minimum",
            "maximum",
            "number",
            "date",
            "csv",
        ),
        *(
            "delimiter",
            "encoding",
            "x",
            "a",
            "1",
            "-1.5e9",
            "9" * 5000,
            "1e" + "9" * 30,
            "{{ a }}",
            "{% for %}",
            "${X}",
            "&a",
            "*a",
        ),
        *(
            "!!int",
            "<<",
            "\ud800",
            "\x00",
            "\x85",
            "é",
            "2025-01-01",
            "[[[[",
            "]",
            "{",
            "}",
            "'",
            '"',
            "|",
            ">",
        ),
    ]
)
YAMLISH = st.lists(
    WORDS | st.sampled_from([": ", "\n", "\n  ", "\n    - ", ", ", "---\n", " ", "#"]) | st.text(max_size=3),
    max_size=40,
).map("".join)


@st.composite
def mutated(draw, text):
    """A valid file with pieces replaced, removed, doubled or inserted."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.sampled_from([0, 1, 2, 5, 20, 80]))
        piece = draw(st.one_of(WORDS, st.just(""), st.just(text[start:stop] * 2), st.text(max_size=2)))
        text = text[:start] + piece + text[stop:]
    return text


def load(mappings, schemas):
    """Load files. They give well-formed problems or a catalog that works, and nothing else is raised."""
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
@given(mapping=mutated(GUARDED))
def test_every_key_with_mistakes(mapping):
    """All other keys of the language, with mistakes, give problems or a working catalog."""
    load({"run.yaml": mapping}, {"s.yaml": SCHEMA})


def test_the_unmutated_files_are_valid():
    """The unmutated files are valid: otherwise every mutation would stop at the first mistake."""
    assert check({"airport-agent.yaml": MAPPING, "run.yaml": GUARDED}, {"s.yaml": SCHEMA}) == ()
