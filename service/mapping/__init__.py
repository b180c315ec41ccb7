"""The mapping language: YAML files -> catalog -> definition -> row to input, reply to output fields.

    yamltext     text -> values with lines          expression   JMESPath + `$` + transforms, compiled
    forms        which keys there are, their types  evaluation   the value of an expression's tree
    catalog      all files; names -> definitions    transforms   the registry of transforms (dates, patterns)
    definition   one run, as text and compiled      templates    Jinja that always ends
    targets      a form per way to invoke
    inputs       a row -> the agent's input         envelope     any reply -> transcript
    schemas      an agent's own word on its output  methods      the registry of extraction methods
    types        the registry of a schema's types   guards       a reply that says no, or not yet
    problems     what is wrong, where, what to do   extraction   a reply -> output fields (explain: and why)

Pure: everything is compiled and checked when it is loaded, and the rest is data in, data out.
"""

from service.mapping.catalog import Catalog, check
from service.mapping.definition import CsvOptions, Definition, Execution, RetryPolicy, RowMapping
from service.mapping.extraction.explain import Explanation, FailedMethod, FieldTrace
from service.mapping.extraction.extractor import Extraction, Extractor
from service.mapping.syntax.problems import Problem
from service.mapping.targets import Target

__all__ = [
    "Catalog",
    "CsvOptions",
    "Definition",
    "Execution",
    "Explanation",
    "Extraction",
    "Extractor",
    "FailedMethod",
    "FieldTrace",
    "Problem",
    "RetryPolicy",
    "RowMapping",
    "Target",
    "check",
]
