"""The surface of a mapping file: YAML with line numbers, the keys that are allowed, and problem reports.

    yaml_text    YAML text -> JSON values, each with its line
    forms        the keys of every table and their types (pydantic)
    references   `${NAME}` and `${secret:NAME}`
    problems     error messages with file, line and a hint

A new key of a mapping file is a field of its form in `forms`; what its values mean is compiled by the package
above, `service.mapping`.
"""
