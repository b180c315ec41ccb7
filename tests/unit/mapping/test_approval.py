"""`approve` and `approve_if` in a mapping."""

import pytest

from service.domain.errors import MappingError
from service.domain.model import SampleGate
from tests.unit.laboratory import DEMO, definition_of


def test_a_mapping_asks_for_approval() -> None:
    """The sample, the longest wait and the conditions are part of the mapping."""
    text = f"{DEMO}\napprove: {{sample: 20, random: true, by: 2h}}\napprove_if: {{success: '>= 98%'}}\n"
    assert definition_of(text).compile().gate == SampleGate(20, True, 7_200, {"success": ">= 98%"})
    assert definition_of(DEMO).compile().gate is None
    assert definition_of(f"{DEMO}\napprove: {{sample: 1}}\n").compile().gate == SampleGate(1)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("approve: {sample: 0}", "approve.sample"),
        ("approve: {sample: 1001}", "approve.sample"),
        ("approve: {}", "approve.sample"),
        ("approve: {sample: 2, by: soon}", "'soon' is no time; use for example 24h"),
        ("approve: {sample: 2, rows: 3}", "approve.rows"),
        ("approve_if: {success: '>= 98%'}", "approve_if needs approve, such as {sample: 20}"),
        ("approve: {sample: 2}\napprove_if: {success: 98%}", "'success' is '98%'; use a share"),
        ("approve: {sample: 2}\napprove_if: {sucess: '>= 98%'}", "approve_if.sucess"),
        ("approve: {sample: 2}\napprove_if: {}", "no condition; for example"),
        ("approve: {sample: 2}\napprove_if: {fill: {nonesuch: '> 1%'}}", "an output field that the mapping"),
    ],
)
def test_wrong_keys_are_named_with_their_place(lines: str, problem: str) -> None:
    """As all other keys of a mapping."""
    with pytest.raises(MappingError) as caught:
        definition_of(f"{DEMO}\n{lines}\n").compile()
    assert problem in str(caught.value)
