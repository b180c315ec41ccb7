"""JSON Schemas (draft 2020-12) of mapping and schema files, made from the forms that read these files.

    python -m service.mapping.json_schema mapping|schema

`make json-schema` writes them to docs/schema/. With them an editor completes and validates keys, types, and
the names of methods, transforms and types. Expressions, patterns and templates are checked by `rowfleet
check` only. YAML editors take the schema from the first line of a file:

    # yaml-language-server: $schema=../docs/schema/mapping.json
"""

from __future__ import annotations

import json
import sys

from pydantic.json_schema import models_json_schema

from service.mapping.budget import BudgetForm
from service.mapping.expressions.transforms import TRANSFORMS
from service.mapping.extraction.methods import METHODS
from service.mapping.extraction.schemas import EXTRACTION_FORMS
from service.mapping.extraction.types import TYPES
from service.mapping.pricing import AUTO
from service.mapping.schema_parts import Schema, ref, referenced, remove
from service.mapping.syntax.forms import (
    ExtractionForm,
    Form,
    PathForm,
    PricingForm,
    RunForm,
    SchemaFieldForm,
    SchemaForm,
)
from service.mapping.targets import FORMS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COMMENT = (
    "First line of a YAML file: # yaml-language-server: $schema=PATH/TO/{}.json (made by `make json-schema`)"
)

_TARGET = {
    "type": "What it is.",
    "name": "Finds the extraction and the schema of this name.",
    "invoke": "How it is invoked.",
}
_AWS = {
    **_TARGET,
    "region": "Where it is, if not in the worker's region.",
    "endpoint_url": "Its endpoint, if not the worker's.",
}
_SIZE_LIMITED = _AWS | {"large_input": "Above the service's limit, fail the row or send a reference to S3."}
# Texts for users in their editors. They are part of docs/schema/*.json: run `make json-schema` after a
# change.
_DESCRIPTIONS: dict[str, dict[str, str]] = {
    "RunForm": {
        "target": "What is invoked for every row.",
        "input_mapping": "How a row of the CSV becomes the agent's input. Default: all columns.",
        "output_mapping": "A name of output_mappings, or an extraction. Default: the target's name.",
        "execution": "How rows are run.",
        "rate_limit": "What all workers together may do at this target.",
        "reuse": "`batch` or `N days`: identical inputs are answered once.",
        "csv": "How the file is read and the result written.",
        "keep_replies": "The rows whose replies are kept for remap: none, failed ones, or all.",
        "pricing": "The prices of a call; auto takes them from a list, by the model.",
        "budget": "The most that all runs of the mapping use together, each day in UTC.",
        "approve": "The rows that run first; the others wait until somebody approves them.",
        "approve_if": "Conditions that approve the sample by themselves.",
    },
    "ApproveForm": {
        "sample": "The number of rows.",
        "random": "Rows from anywhere in the file, instead of the first ones.",
        "by": "Longest wait for approval, such as 24h, 90m or 2d; or a number of seconds.",
    },
    "ApproveIfForm": {
        "success": "The share of rows that succeed, such as >= 98%.",
        "fill": "Output field: the share of succeeded rows that have a value, such as >= 90%.",
        "cost_per_row_usd": "The cost of a row in dollars, such as <= 0.01.",
    },
    "PricingForm": {
        "input_per_million": "The price of a million input tokens.",
        "output_per_million": "The price of a million output tokens, those of reasoning among them.",
        "cached_input_per_million": "The price of a million input tokens read from the provider's cache.",
        "cache_write_per_million": "The price of a million input tokens written to the provider's cache.",
        "per_call": "The price of each call, beside that of its tokens.",
        "max_cost_per_call": "The most that a call can cost: a budget reserves it, in place of an estimate.",
        "currency": "Three capitals, such as USD or EUR.",
    },
    "BudgetForm": {
        "usd_per_day": "Dollars, by `pricing`.",
        "tokens_per_day": "Input and output tokens.",
        "calls_per_day": "Calls, repeated and failed ones too.",
    },
    "HttpForm": {
        **_TARGET,
        "url": "http:// or https://; ${NAME} is taken from the environment, ${secret:NAME} from a secret, "
        "{{ name }} from the input.",
        "method": "The HTTP method.",
        "headers": "Sent with every request; ${NAME} and ${secret:NAME} are filled in.",
    },
    "ChatForm": {
        **_TARGET,
        "preset": "Whose interface the model is behind.",
        "url": "The address, where it is not the provider's own.",
        "headers": "Sent with every request, over those of the preset.",
        "api_key": "For example ${secret:NAME}.",
        "model": "The model's name.",
        "system": "The system prompt.",
        "parameters": "Further keys of the request, in the provider's words.",
    },
    "CommandForm": {
        **_TARGET,
        "command": "The program and its arguments; no shell is involved.",
        "env": "Environment variables, over those of the worker.",
        "directory": "Where it runs; the worker's folder if absent.",
    },
    "LambdaForm": {
        **_SIZE_LIMITED,
        "function": "Name or ARN of the function.",
        "qualifier": "A version or an alias.",
    },
    "StepFunctionsForm": {
        **_SIZE_LIMITED,
        "state_machine": "ARN of the state machine, of a version or of an alias.",
        "workflow": "The type of the state machine.",
    },
    "ConverseForm": {
        **_AWS,
        "model": "Id or ARN of the model or inference profile.",
        "system": "The system prompt.",
        "parameters": "Further members of Converse's request, such as inferenceConfig and toolConfig.",
    },
    "AgentCoreForm": {
        **_AWS,
        "agent_runtime": "ARN of the AgentCore runtime.",
        "qualifier": "An endpoint of the runtime.",
    },
    "PythonForm": {
        **_TARGET,
        "function": "package.module:function, which takes the input and returns the reply.",
    },
    "InputForm": {
        "column_mappings": "Input field: CSV column. With it, only what is named passes.",
        "static_values": "Input fields that are the same for every row.",
        "include_columns": "Columns that pass under their own names, beside column_mappings.",
        "exclude_columns": "Columns that do not pass; all others do.",
        "transforms": "Input field: a transform, or several in order.",
        "template": "A Jinja template; its text is sent as the field `prompt`.",
        "body": "The whole input as a nested template, in place of the fields.",
    },
    "ExecutionForm": {
        "max_concurrency": "Calls in flight, per worker process.",
        "timeout_seconds": "Longest wait for an answer, per attempt.",
        "batch_deadline_seconds": "Rows without a result this long after the start of the run are FAILED.",
        "row_deadline_seconds": "Time for a row over all its attempts, from the first one on.",
        "retry_policy": "How often a row is tried.",
        "tolerate": "The failed rows that a run may have before it is held.",
    },
    "TolerateForm": {
        "rejected": "Most rows that fail as rejected: a number, or a share such as 5%.",
        "transient": "Most rows that fail as transient: a number, or a share such as 20%.",
        "any": "Most failed rows: a number, or a share.",
        "first": "So many first rows that all fail for the same cause hold the run; 0 never does.",
        "on_exceeded": "pause holds the run until it is resumed, cancel ends it, finish lets it go on.",
    },
    "RetryForm": {
        "budget_seconds": "No attempt begins later than this after the first.",
        "max_attempts": "The first attempt counts.",
        "base_seconds": "The wait before the second attempt; doubled from then on.",
        "cap_seconds": "The longest wait.",
        "jitter": "How waits are spread: over all of it, over its upper half, or not at all.",
    },
    "RateLimitForm": {
        "name": "Mappings that share a limit share its name; the target's name if absent.",
        "requests_per_minute": "Requests that begin within a minute.",
        "input_tokens_per_minute": "Tokens sent within a minute, by the usage that replies report.",
        "output_tokens_per_minute": "Tokens answered within a minute, by the usage that replies report.",
        "concurrent": "Requests under way at a time.",
    },
    "CsvForm": {
        "delimiter": "auto, or one of , ; tab |",
        "encoding": "auto, or for example utf-8, utf-16, cp1252.",
        "escape": "A character, usually a backslash, before a quote that does not end its cell.",
        "comment": "A character; lines that begin with it are skipped.",
        "skip_lines": "Lines before the header.",
        "columns": "Names of the columns, for files without a header.",
        "blank_records": "skip, or run: records of empty cells are rows.",
        "bom": "Begin output.csv with a byte order mark, by which Excel knows UTF-8.",
        "excel": "bom, and cells longer than Excel takes stand in long_cells.csv.",
        "escape_formulas": "Put ' before output text that a spreadsheet would run.",
        "provenance": "Add the column _provenance: which method and path gave each value.",
    },
    "ExtractionForm": {
        "type": "What it is for.",
        "extraction_methods": "Tried in order; later ones fill what the first that succeeds left empty.",
        "required": "Fields without which a row has failed.",
        "reject_if": "Patterns: a reply that matches makes the row a failure.",
        "pending_if": "Patterns: a reply that matches is asked for again later.",
        "not_found": "Texts that count as no value.",
        "allow_empty": "A reply without any value is no failure.",
        "allow_truncated": "An answer that a limit has cut off is no failure.",
        "accept_errors": "A reply that states an error or a refusal is no failure.",
        "accept_html": "A whole HTML page may be an answer.",
    },
    "PathForm": {"path": "An expression.", "transform": "Applied to what the path gives."},
    "SchemaForm": {
        "agent": "The name of the target that it belongs to.",
        "version": "For readers.",
        "output_format": "For readers: every shape is recognised.",
        "fields": "What the agent gives.",
    },
    "SchemaFieldForm": {
        "name": "The output field.",
        "type": "What the value must be.",
        "required": "Without it the row has failed.",
        "enum": "The values that there are.",
        "pattern": "The whole text must match it (RE2).",
        "minimum": "The least value.",
        "maximum": "The greatest value.",
        "extraction": "Where the value is found; tried in order.",
    },
    "ToolPatternForm": {"tool": "Any tool if absent.", "pattern": "The first group counts (RE2)."},
    "StructuredPathForm": {"tool": "The tool that the output is passed to.", "path": "An expression."},
}
_METHOD_KEYS = {
    "method": "Where in the reply it looks.",
    "tool_name": "The tool whose result or arguments count.",
    "field_mappings": "Output field: expression.",
    "paths": "Output field: expression; the key `transform` is always the transform.",
    "transform": "Applied to all fields.",
    "each": "All items of the list, not only the first; their texts are joined.",
}


def json_schema(kind: str) -> Schema:
    """The JSON Schema of files in mappings/ (`mapping`) or schemas/ (`schema`). Raises KeyError."""
    schema = {"mapping": _mapping, "schema": _schema}[kind]()
    used = referenced(schema)
    definitions = schema.pop("$defs")
    head = {"$schema": _DIALECT, "$comment": _COMMENT.format(kind)}
    # Sorted, so that the file does not change with the order of the code.
    return head | schema | {"$defs": {name: definitions[name] for name in sorted(used)}}


def _mapping() -> Schema:
    method_forms = [form for form, _ in METHODS.values()]
    target_forms = [form for forms in FORMS.values() for form in forms]
    forms = (RunForm, ExtractionForm, PathForm, PricingForm, BudgetForm)
    definitions = _definitions(*forms, *target_forms, *method_forms)
    definitions |= _methods(definitions)
    run, extraction = definitions.pop("RunForm"), definitions["ExtractionForm"]
    keys = run["properties"]
    keys["target"] |= {"anyOf": [ref(form.__name__) for form in target_forms]}
    keys["output_mapping"] |= {"anyOf": [{"type": "string"}, ref("ExtractionForm")]}
    keys["pricing"] |= {"anyOf": [{"const": AUTO}, ref("PricingForm")]}
    keys["budget"] |= ref("BudgetForm")
    remove(keys["target"], "type", "additionalProperties")  # replaced by the forms of all targets
    methods = extraction["properties"]["extraction_methods"]
    methods["items"] = {"anyOf": [ref(f"method_{name}") for name in METHODS]}
    definitions["InputForm"]["properties"]["transforms"]["additionalProperties"] = ref("Transform")
    definitions["PathForm"]["properties"]["transform"] |= ref("Transform")
    definitions["Transform"] = _transform()
    definitions["Expression"] = {"anyOf": [{"type": "string"}, ref("PathForm")]}
    named: Schema = {
        "description": "Extractions by name, which run definitions and other files can use.",
        "type": "object",
        "additionalProperties": ref("ExtractionForm"),
    }
    return {
        "title": "rowfleet mapping",
        "description": "A run definition (the file's stem is its name), named extractions, or both.",
        "type": "object",
        "properties": keys | {"output_mappings": named},
        "additionalProperties": False,
        "anyOf": [{"required": ["target"]}, {"required": ["output_mappings"]}],
        "dependentRequired": {key: ["target"] for key in keys if key != "target"},
        "$defs": definitions,
    }


def _schema() -> Schema:
    definitions = _definitions(SchemaForm, SchemaFieldForm, *EXTRACTION_FORMS.values())
    whole, field = definitions.pop("SchemaForm"), definitions["SchemaFieldForm"]["properties"]
    whole["properties"]["fields"]["items"] = ref("SchemaFieldForm")
    version = whole["properties"]["version"]
    version["type"] = ["string", "number"]  # one list in place of anyOf
    remove(version, "anyOf", "default")
    field["type"]["enum"] = list(TYPES)
    field["extraction"]["items"] = {"anyOf": [ref(form.__name__) for form in EXTRACTION_FORMS.values()]}
    return whole | {
        "title": "rowfleet schema",
        "description": "What an agent says of its own output: to extract it by, and to check it.",
        "$defs": definitions,
    }


def _definitions(*forms: type[Form]) -> dict[str, Schema]:
    """The definitions of the forms and of the forms inside them, by class name, with our descriptions.

    pydantic's titles are removed, and its descriptions, which are docstrings for developers.
    """
    unique = dict.fromkeys(forms)
    _, made = models_json_schema([(form, "validation") for form in unique], ref_template="#/$defs/{model}")
    definitions: dict[str, Schema] = made["$defs"]
    for name, definition in definitions.items():
        remove(definition, "title", "description")
        for key, value in definition["properties"].items():
            remove(value, "title")
            if isinstance(value.get("default"), dict | list) or value.get("default", "") in ("", None):
                remove(value, "default")
            if text := _DESCRIPTIONS.get(name, _METHOD_KEYS).get(key):
                value["description"] = text
    return definitions


def _methods(definitions: dict[str, Schema]) -> dict[str, Schema]:
    """A definition for each method: its form with the method's name as a constant."""
    methods: dict[str, Schema] = {}
    for name, (form, _) in METHODS.items():
        base = definitions[form.__name__]
        keys = {key: dict(value) for key, value in base["properties"].items()}
        keys["method"] = {"const": name, "description": _METHOD_KEYS["method"]}
        if "transform" in keys:
            keys["transform"] |= ref("Transform")
        for fields in keys.keys() & {"field_mappings", "paths"}:
            keys[fields]["additionalProperties"] = ref("Expression")
        if "paths" in keys:
            keys["paths"]["properties"] = {"transform": ref("Transform")}
        methods[f"method_{name}"] = base | {"properties": keys}
    return methods


def _transform() -> Schema:
    """A transform's name, which editors complete, a call such as parse('…'), or a list of these."""
    one: Schema = {"anyOf": [{"enum": sorted(TRANSFORMS)}, {"type": "string"}]}
    return {"anyOf": [*one["anyOf"], {"type": "array", "items": one}]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(sys.argv[1]), indent=2, ensure_ascii=False) + "\n")
