"""The JSON Schemas of mapping and schema files, tested with a small validator of their keywords."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.mapping.json_schema import json_schema
from service.mapping.syntax.yaml_text import read_documents

ROOT = Path(__file__).parents[3]
BROKEN = ROOT / "tests" / "fixtures" / "broken"
SCHEMAS = {kind: json_schema(kind) for kind in ("mapping", "schema")}
SHIPPED = [
    *(("mapping", path) for path in sorted((ROOT / "mappings").glob("*.yaml"))),
    *(("schema", path) for path in sorted((ROOT / "schemas").glob("*.yaml"))),
]

EVERYTHING = """
target:
  type: agent
  name: broadband-agent-rust
  invoke: http
  url: ${AGENT_URL}
  headers: { Authorization: "Bearer ${secret:AGENT_TOKEN}" }
input_mapping:
  column_mappings: { address: Address, postcode: "Post code" }
  static_values: { country: GB, limit: 3, nested: { a: [1, null] } }
  template: "Find broadband at {{ address }}, {{ postcode }}."
  transforms: { postcode: [trim, upper], address: "replace('-', ' ')" }
  include_columns: [Id]
  body: { q: "{{ prompt }}", n: [1] }
output_mapping:
  required: [exchange]
  extraction_methods:
    - { method: tool_result, tool_name: browser, field_mappings: { exchange: $.content } }
    - method: structured_output
      field_mappings: { exchange: { path: $.exchange, transform: [trim, lower] } }
    - { method: jmespath, paths: { exchange: text, transform: parse_text } }
    - { method: results_array, field_mappings: { exchange: "results[0].title" } }
    - { method: direct, field_mappings: { exchange: $.exchange } }
execution: { max_concurrency: 50, timeout_seconds: 60, retry_policy: { max_attempts: 4 } }
csv: { delimiter: auto, encoding: auto }
"""


def errors(schema: dict[str, Any], value: Any, root: dict[str, Any], path: str = "") -> list[str]:
    """The violations of a schema. Fails for a keyword that this validator does not know."""
    found: list[str] = []
    for keyword, rule in schema.items():
        found += [f"{path}: {keyword}"] if not holds(keyword, rule, value, schema, root, path) else []
        found += deeper(keyword, rule, value, schema, root, path)
    return found


TYPES = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip
NOTES = {"$schema", "$comment", "title", "description", "default", "$defs", "properties", "items", "$ref"}


def holds(keyword, rule, value, schema, root, path) -> bool:  # noqa: C901, PLR0911, PLR0912 -- a table in words
    match keyword:
        case "type":
            kinds = rule if isinstance(rule, list) else [rule]
            is_bool = isinstance(value, bool)
            return any(isinstance(value, TYPES[kind]) and is_bool <= (kind == "boolean") for kind in kinds)
        case "anyOf":
            return any(not errors(one, value, root, path) for one in rule)
        case "required":
            return not isinstance(value, dict) or all(key in value for key in rule)
        case "dependentRequired":
            return all(key not in value or all(need in value for need in rule[key]) for key in rule)
        case "const":
            return value == rule
        case "enum":
            return value in rule
        case "minLength":
            return not isinstance(value, str) or len(value) >= rule
        case "maxLength":
            return not isinstance(value, str) or len(value) <= rule
        case "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        case "minItems" | "minProperties":
            return not isinstance(value, list | dict) or len(value) >= rule
        case "minimum":
            return not isinstance(value, int | float) or value >= rule
        case "maximum":
            return not isinstance(value, int | float) or value <= rule
        case "exclusiveMinimum":
            return not isinstance(value, int | float) or value > rule
        case "additionalProperties":
            if rule is not False or not isinstance(value, dict):
                return True
            return value.keys() <= schema.get("properties", {}).keys()
    assert keyword in NOTES, keyword
    return True


def deeper(keyword, rule, value, schema, root, path) -> list[str]:
    """The violations inside a value."""
    if keyword == "$ref":
        return errors(root["$defs"][rule.removeprefix("#/$defs/")], value, root, path)
    if keyword == "items" and isinstance(value, list):
        return [error for n, item in enumerate(value) for error in errors(rule, item, root, f"{path}[{n}]")]
    if not isinstance(value, dict):
        return []
    inside: dict[str, dict[str, Any]] = {}
    if keyword == "properties":
        inside = {key: rule[key] for key in rule if key in value}
    elif keyword == "additionalProperties" and isinstance(rule, dict):
        inside = {key: rule for key in value if key not in schema.get("properties", {})}
    return [error for key in inside for error in errors(inside[key], value[key], root, f"{path}.{key}")]


def check(kind: str, text: str) -> list[str]:
    """The violations of all documents in a YAML text."""
    documents, problems = read_documents("file.yaml", text)
    assert problems == []
    return [error for document in documents for error in errors(SCHEMAS[kind], document.value, SCHEMAS[kind])]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_files_are_those_of_the_forms(kind):
    """The committed files are up to date: `make json-schema` was run after the last change of a form."""
    committed = json.loads((ROOT / "docs" / "schema" / f"{kind}.json").read_text("utf-8"))
    assert committed == SCHEMAS[kind], "run `make json-schema`"


@pytest.mark.parametrize("kind", SCHEMAS)
def test_they_are_draft_2020_12(kind):
    """The schemas name their dialect, say how an editor finds them, and have no dangling references."""
    schema = SCHEMAS[kind]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert f"# yaml-language-server: $schema=PATH/TO/{kind}.json" in schema["$comment"]
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert references == set(schema["$defs"])


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_key_is_described(kind):
    """Every key has a description for editors."""
    tables = [SCHEMAS[kind], *SCHEMAS[kind]["$defs"].values()]
    for table in tables:
        for key, value in table.get("properties", {}).items():
            assert {"description", "const", "$ref"} & value.keys(), key


@pytest.mark.parametrize(("kind", "path"), SHIPPED, ids=lambda value: getattr(value, "stem", value))
def test_the_files_that_are_shipped_fit(kind, path):
    """The repository's own files, among them those of the original design, are valid."""
    assert check(kind, path.read_text("utf-8")) == []


def test_every_part_of_the_language_fits():
    """A run definition that uses every key is valid."""
    assert check("mapping", EVERYTHING) == []


@pytest.mark.parametrize(
    "after",
    [
        "target:",
        "input_mapping:",
        "output_mapping:",
        "execution: {",
        "retry_policy: {",
        "csv: {",
        "{ method: tool_result,",
        "- method: structured_output",
        "{ method: jmespath,",
        "{ method: results_array,",
        "{ method: direct,",
        "{ path: $.exchange,",
    ],
)
def test_an_unknown_key_does_not_fit(after):
    """An unknown key is a violation on every level."""
    indent = " " * (6 if after.startswith("-") else 2)
    key = " unknown_key: 1," if after.endswith(("{", ",")) else f"\n{indent}unknown_key: 1"
    assert check("mapping", EVERYTHING.replace(after, after + key, 1)) != []
    assert check("mapping", EVERYTHING + "unknown_key: 1\n") != []


@pytest.mark.parametrize(
    "name", ["field_mappings: {", "column_mappings: {", "static_values: {", "headers: {"]
)
def test_names_that_users_choose_fit(name):
    """Fields, columns, constants and headers may have any name."""
    assert check("mapping", EVERYTHING.replace(name, name + ' invented: "x",', 1)) == []


@pytest.mark.parametrize(
    "case",
    [
        "mappings/bad-function", "mappings/bad-type", "mappings/method-without-fields",
        "mappings/method-without-name", "mappings/missing-url", "mappings/negative-timeout",
        "mappings/no-attempts", "mappings/no-methods", "mappings/no-target", "mappings/number-as-text",
        "mappings/top-level-list", "mappings/top-level-text", "mappings/unknown-invoke",
        "mappings/unknown-key", "mappings/unknown-key-at-the-top", "mappings/unknown-method",
        "schemas/extraction-without-pattern", "schemas/no-agent", "schemas/unknown-extraction",
        "schemas/unknown-rule", "schemas/unknown-type",
    ],
)  # fmt: skip
def test_broken_files_do_not_fit(case):
    """Files with wrong keys or types are invalid. Expressions and templates are left to `rowfleet check`."""
    kind = case.partition("s/")[0]
    assert check(kind, (BROKEN / f"{case}.yaml").read_text("utf-8")) != []


def test_transforms_and_types_are_completed():
    """The schema lists the names of transforms and types, so that editors can complete them."""
    assert "to_number" in SCHEMAS["mapping"]["$defs"]["Transform"]["anyOf"][0]["enum"]
    assert "datetime" in SCHEMAS["schema"]["$defs"]["SchemaFieldForm"]["properties"]["type"]["enum"]
