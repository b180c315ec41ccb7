"""The expression language: JMESPath, plus `$` for the root and transforms after `|`.

    expression   text -> compiled Expression (parses, resolves every call, checks constants)
    evaluation   the tree of an expression -> a function that computes its value
    functions    JMESPath's own functions, extended to Decimal
    transforms   the table TRANSFORMS: `parse`, `to_number`, `trim`, …
    numbers      numbers in text, for `to_number` and the types of schemas
    model_json   JSON as models write it, for `parse_json` and for paths into a text
    quote_repair quotes inside of texts in JSON, by json-repair
    syntax_errors  mistakes in expressions in the words of their author
    patterns     regular expressions in linear time, for `parse` and the guards
    dates        ISO dates and date formats, for `to_date` and the types of schemas

A new transform is one function and its entry in TRANSFORMS, in `transforms`.
"""
