"""Inputs of agents: columns, constants, transforms, templates and bodies of a row."""

import pytest

from service.domain.errors import CsvError, InputError

COLUMNS = ("Address", "Post code", "Ref")
CELLS = ("10 Downing St", " sw1a 2aa ", "0123")


def body(mapping, columns=COLUMNS, cells=CELLS):
    return mapping.build_input(columns, cells)


def test_without_input_mapping_every_column_passes(compiled):
    """All columns pass under their own names, as text."""
    assert body(compiled()) == dict(zip(COLUMNS, CELLS, strict=True))


def test_columns_constants_transforms_and_template(compiled):
    """Only named columns are passed.

    The template is rendered from the mapped fields and passed as `prompt`.
    """
    mapping = compiled("""
input_mapping:
  column_mappings: {address: Address, postcode: "Post code"}
  static_values: {country: NO, n: 5}
  include_columns: [Ref]
  transforms: {postcode: [trim, upper], Ref: to_integer}
  template: "Find {{ address }}, {{ postcode | lower }}{% if n %} ({{ n }}){% endif %}."
""")
    assert body(mapping) == {
        "address": "10 Downing St",
        "postcode": "SW1A 2AA",
        "Ref": 123,
        "country": "NO",
        "n": 5,
        "prompt": "Find 10 Downing St, sw1a 2aa (5).",
    }
    assert mapping.required_columns == {"Address", "Post code", "Ref"}


def test_excluded_columns_do_not_pass(compiled):
    """Excluded columns are not passed, and a misspelt one is reported."""
    mapping = compiled("input_mapping: {exclude_columns: [Ref]}\n")
    assert body(mapping) == {"Address": CELLS[0], "Post code": CELLS[1]}
    with pytest.raises(CsvError, match="'Ref'"):
        mapping.check_columns(("Address", "Reff"))


def test_include_columns_alone_pass_only_those(compiled):
    """Without column_mappings, only include_columns are passed."""
    assert body(compiled("input_mapping: {include_columns: [Ref]}\n")) == {"Ref": "0123"}


def test_column_mappings_the_wrong_way_round_are_told_so(compiled):
    """Fields that are columns of the file, and columns that are not, are shown the right way round."""
    mapping = compiled(
        "input_mapping: {column_mappings: {Post code: postcode, Address: address, Ref: Ref}}\n"
    )
    with pytest.raises(CsvError) as caught:
        mapping.check_columns(COLUMNS)
    assert "column_mappings is the wrong way round" in str(caught.value)
    assert '{ postcode: "Post code", address: Address }' in str(caught.value)
    assert "did you mean" not in str(caught.value)
    half = compiled("input_mapping: {column_mappings: {Post code: postcode, a: Addres}}\n")
    with pytest.raises(CsvError, match="did you mean"):
        half.check_columns(COLUMNS)


def test_a_missing_column_is_named_with_the_columns_of_the_file(compiled):
    """The error has the missing columns, the file's columns, and the most similar name."""
    mapping = compiled("input_mapping: {column_mappings: {postcode: Post code, a: Address}}\n")
    mapping.check_columns(COLUMNS)
    with pytest.raises(
        CsvError,
        match="names column 'Post code', the file has 'Address', 'Postcode'; did you mean 'Postcode'",
    ):
        mapping.check_columns(("Address", "Postcode"))


def test_a_body_is_a_nested_template(compiled):
    """Strings of a body are rendered.

    A lone `{{ name }}` keeps the value's type, and no value can break out.
    """
    mapping = compiled("""
input_mapping:
  column_mappings: {q: Ref}
  static_values: {limit: 3, tags: [a, b]}
  template: "Ask: {{ q }}"
  body:
    messages: [{role: user, content: "{{ prompt }}"}]
    limit: "{{ limit }}"
    text: "{{ limit }} of {{ tags }}"
    fixed: 1.5
""")
    quoted = body(mapping, ("Ref",), ('"}], "x": {{ limit }}',))
    assert quoted == {
        "messages": [{"role": "user", "content": 'Ask: "}], "x": {{ limit }}'}],
        "limit": 3,
        "text": '3 of ["a","b"]',
        "fixed": 1.5,
    }


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in [1] %}{% endfor %}",
        "{{ 'a' * 10 }}",
        "{{ 2 ** 9 }}",
        "{{ a.upper() }}",
        "{{ range(9) }}",
        "{% macro m() %}{% endmacro %}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% set x = a %}",
        "{{ a | center(9) }}",
        "{{ ''.__class__.__mro__ }}{{ cycler() }}",
        "{{ '%9d' % 1 }}",
        "{% call a() %}{% endcall %}",
        "{% filter upper %}{% endfilter %}",
        "{{ a | uper }}",
        "{% if %}",
        "{{ b }}",
        "{% block x %}{% endblock %}",
        "{{ a is nosuchtest }}",
    ],
)
def test_forbidden_template_syntax_is_reported_at_load(refused, template):
    """Loops, calls, multiplication, includes, unknown names and filters are reported with file and line."""
    text = f'input_mapping:\n  column_mappings: {{a: A}}\n  template: "{template}"\n'
    assert refused(text).startswith("run.yaml:4: ")


@pytest.mark.parametrize(
    "template",
    [
        "{{ a.__class__ }}",
        "{{ a.upper }}",
        "{{ a[0].x }}",
        "{{ a | replace('x', b) | replace('y', b) }}",
        "{{ a - b }}",
        "{{ a | join(b) }}",
    ],
)
def test_a_template_that_fails_for_a_row_is_an_input_error(compiled, template):
    """Attributes of Python objects, undefined values, type errors and too large results fail the row."""
    mapping = compiled(f'input_mapping:\n  column_mappings: {{a: A, b: B}}\n  template: "{template}"\n')
    with pytest.raises(InputError, match="template"):
        mapping.build_input(("A", "B"), ("x" * 2000, "y" * 2000))


def test_template_names_are_columns_if_all_are_passed(compiled):
    """If all columns are passed, a variable is a column that the file must have, unless it has a default."""
    mapping = compiled("input_mapping: {template: \"{{ Ref }} {{ note | default('-') }}\"}\n")
    assert mapping.required_columns == {"Ref"}
    assert body(mapping)["prompt"] == "0123 -"


def test_a_transform_that_loses_a_cell_fails_the_row(compiled):
    """A cell with text is never sent as null. An empty cell may become null."""
    mapping = compiled("input_mapping: {transforms: {Ref: to_number}}\n")
    with pytest.raises(InputError, match="'Ref': to_number makes nothing of 'abc'"):
        mapping.build_input(("Ref",), ("abc",))
    assert mapping.build_input(("Ref",), ("",)) == {"Ref": None}


def test_a_row_of_another_width_is_an_input_error(compiled):
    """A row with another number of cells than columns is rejected."""
    with pytest.raises(InputError, match="2 cells under 3 columns"):
        compiled().build_input(COLUMNS, ("a", "b"))
