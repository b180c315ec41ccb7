"""A catalog with one extraction, `price`, and samples of it on disk."""

import json
from pathlib import Path

from service.mapping import Catalog

EXTRACTION = """output_mappings:
  price:
    extraction_methods:
      - method: direct
        field_mappings: {price: "$.price", note: "$.note"}
"""
CATALOG = Catalog.load({"price.yaml": EXTRACTION}, {})


def write_samples(folder: Path, **files: object) -> None:
    """Write files into the folder `price`; `_` in a name stands for a dot."""
    (folder / "price").mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "price" / name.replace("_", ".")).write_text(text)
