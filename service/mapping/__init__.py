"""The mapping language: YAML files that say how a row becomes an input, and a reply becomes output fields.

In the order of the data:

    syntax/       YAML text, allowed keys, references, problem reports
    catalog       all mapping files together -> definitions by name
    definition    one run definition: the text stored with a batch, and the compiled RowMapping
    targets       `target`: a form for each way to invoke
    inputs        `input_mapping`: a row -> the agent's input
    pricing       `pricing`: the cost of a call's tokens
    templates     Jinja templates with bounded run time, for inputs and URLs
    expressions/  JMESPath, `$` and transforms
    replies/      any provider's reply -> one transcript
    extraction/   `output_mapping` and schemas: a reply -> output fields
    json_schema   JSON Schemas of the files, for editors

A provider's reply shape is added in `replies/`, a transform in `expressions/transforms`, an extraction method
in `extraction/methods`, a way to invoke in `targets`; each package says how.

Pure: files are compiled and checked when they are loaded, and afterwards only data goes in and comes out.
"""

from service.mapping.catalog import Catalog, check
from service.mapping.definition import CsvOptions, Definition, Execution, RetryPolicy, RowMapping
from service.mapping.extraction.explain import Explanation, FailedMethod, FieldTrace
from service.mapping.extraction.extractor import Extraction, Extractor
from service.mapping.pricing import AUTO, Prices, Pricing
from service.mapping.syntax.problems import Problem
from service.mapping.targets import Target

__all__ = [
    "AUTO",
    "Catalog",
    "CsvOptions",
    "Definition",
    "Execution",
    "Explanation",
    "Extraction",
    "Extractor",
    "FailedMethod",
    "FieldTrace",
    "Prices",
    "Pricing",
    "Problem",
    "RetryPolicy",
    "RowMapping",
    "Target",
    "check",
]
