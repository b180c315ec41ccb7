from collections.abc import Callable

import pytest

from service.domain.errors import MappingError
from service.mapping import Catalog, RowMapping

TARGET = "target: {type: agent, name: t, invoke: http, url: 'http://agent'}\n"
OUTPUT = "output_mapping:\n  extraction_methods:\n    - {method: direct, field_mappings: {x: $.x}}\n"


@pytest.fixture
def compiled() -> Callable[..., RowMapping]:
    """Compile a run definition. A missing target or output mapping is added."""

    def build(text: str = "", **schemas: str) -> RowMapping:
        text = text if "target:" in text else TARGET + text
        text = text if "output_mapping" in text else text + OUTPUT
        return Catalog.load({"run.yaml": text}, schemas).definition("run").compile()

    return build


@pytest.fixture
def refused() -> Callable[..., str]:
    """The problems of an invalid run definition as text, one per line."""

    def build(text: str, *, whole: bool = False) -> str:
        if not whole:
            text = text if "target:" in text else TARGET + text
            text = text if "output_mapping" in text else text + OUTPUT
        with pytest.raises(MappingError) as caught:
            Catalog.load({"run.yaml": text}, {})
        return str(caught.value)

    return build
