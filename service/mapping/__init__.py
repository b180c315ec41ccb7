"""The mapping language: YAML files -> catalog -> definition -> row to input, reply to output fields.

    yamltext     text -> values with lines          expression   JMESPath + `$` + transforms, compiled
    forms        which keys there are, their types  transforms   the registry of transforms
    catalog      all files; names -> definitions    templates    Jinja that always ends
    definition   one run, as text and compiled      envelope     any reply -> transcript
    inputs       a row -> the agent's input         methods      the registry of extraction methods
    problems     what is wrong, where, what to do   extraction   a reply -> output fields

Pure: everything is compiled and checked when it is loaded, and the rest is data in, data out.
"""

from service.mapping.catalog import Catalog
from service.mapping.definition import CsvOptions, Definition, Execution, RetryPolicy, RowMapping, Target
from service.mapping.extraction import Extraction, Extractor

__all__ = [
    "Catalog",
    "CsvOptions",
    "Definition",
    "Execution",
    "Extraction",
    "Extractor",
    "RetryPolicy",
    "RowMapping",
    "Target",
]
