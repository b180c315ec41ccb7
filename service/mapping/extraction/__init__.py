"""Extraction: a reply -> output fields, by the methods of an output mapping or the fields of a schema.

    methods      the table METHODS: `tool_result`, `structured_output`, `jmespath`, `results_array`, `direct`
    each         `each: true`: the texts of a list, joined
    guards       `reject_if`, `pending_if`, `not_found`
    guarded_texts  the texts of a reply that guards are matched against
    types        the table TYPES: `string`, `number`, `date`, … with their conversions
    schemas      a schema file -> typed and constrained fields, and methods to extract them
    explain      the source of each value, and why other methods gave none, for `rowfleet try --explain`
    missing      the error of a reply in which values are missing
    reply_summary  what a reply is, for the error that nothing was found in it
    extractor    runs the methods in order, fills gaps from later ones, and applies the schema

A new extraction method is one function and its entry in METHODS, in `methods` (with a form in `syntax.forms`
if it has new keys). A new type of schema fields is an entry in TYPES, in `types`.
"""
