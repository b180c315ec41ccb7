"""Outline of the mapping files: runs, named extractions, and the tools that they refer to."""

from service.catalog.outline import MappingOutline, ToolReference

NAMED = """output_mappings:
  shared:
    extraction_methods:
      - method: tool_result
        tool_name: find_price
"""
USER = """target: {name: shop, invoke: http, url: 'http://a'}
output_mapping: shared
"""
OWN = """target: {name: shop, invoke: http, url: 'http://a'}
output_mapping:
  extraction_methods:
    - {method: direct, field_mappings: {price: $.price}}
    - {method: tool_result, tool_name: find_stock}
"""
BY_SCHEMA = "target: {name: shop, invoke: http, url: 'http://a'}\n"
SCHEMA = """agent: shop
fields:
  - name: price
    extraction:
      - {type: tool_result, tool: find_offer}
"""


def references(**mappings: str) -> list[ToolReference]:
    files = {f"{name}.yaml": text for name, text in mappings.items()}
    return MappingOutline(files, {"schema.yaml": SCHEMA}).tool_references()


def test_a_tool_of_a_named_extraction_is_used_by_the_extraction_and_its_runs() -> None:
    """Its line is that of the extraction, and a run that uses it has no tools of its own."""
    users = frozenset({"shared", "run"})
    assert references(named=NAMED, run=USER) == [ToolReference("find_price", "named.yaml", 5, users)]


def test_a_tool_of_a_runs_own_extraction_is_used_by_the_run() -> None:
    """Methods without a tool are skipped."""
    assert references(run=OWN) == [ToolReference("find_stock", "run.yaml", 5, frozenset({"run"}))]


def test_a_run_without_output_mapping_uses_the_tools_of_its_agents_schema() -> None:
    """The schema belongs to the target's name."""
    assert references(run=BY_SCHEMA) == [ToolReference("find_offer", "schema.yaml", 5, frozenset({"run"}))]


def test_broken_files_are_counted() -> None:
    """Runs and extractions of the wrong form count, files that are no YAML do not."""
    outline = MappingOutline(
        {"a.yaml": "target: 1\n", "b.yaml": "output_mappings: {x: 1}\n", "c.yaml": "["}, {}
    )
    assert list(outline.runs) == ["a"]
    assert list(outline.extractions) == ["x"]
