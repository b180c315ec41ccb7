"""The tables of inputs and outputs in the READMEs of the Terraform modules, written from their files.

`python -m tests.infra.readme_tables` writes them anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.infra.terraform import MODULE

_BLOCK = r'^{kind} "(\w+)" {{\n(.*?)^}}'
_DEFAULT = re.compile(r"^  default +=(.*?)(?=^  \w+ +=|^  validation|\n\n|\Z)", re.MULTILINE | re.DOTALL)

_OPTIONAL = re.compile(r"^    (\w+) += optional\((?:[a-z]+|\w+\([^()]*\))(?:, (.*))?\)$", re.MULTILINE)


def modules() -> list[Path]:
    """The folders of the module and its submodules."""
    return [MODULE, *sorted((MODULE / "modules").iterdir())]


def blocks(folder: Path, kind: str) -> dict[str, str]:
    """The bodies of all top-level blocks `kind "name" { … }` of a module, by name, in their order."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.tf")))
    return dict(re.findall(_BLOCK.format(kind=kind), text, flags=re.MULTILINE | re.DOTALL))


def tables(folder: Path) -> dict[str, str]:
    """The two tables of a module by the title of their section, as Markdown."""
    inputs = [
        f"| `{name}` | {_description(body)} | {_default(body)} |"
        for name, body in blocks(folder, "variable").items()
    ]
    outputs = [f"| `{name}` | {_description(body)} |" for name, body in blocks(folder, "output").items()]
    return {
        "Inputs": "\n".join(["| name | description | default |", "| --- | --- | --- |", *inputs]),
        "Outputs": "\n".join(["| name | description |", "| --- | --- |", *outputs]),
    }


def with_tables(text: str, folder: Path) -> str:
    """The README's text with both tables as they have to be; the rest of the sections stays."""
    for title, table in tables(folder).items():
        section = re.compile(rf"(^## {title}\n)((?:(?!\|)[^\n]*\n)*?)((?:\|[^\n]*\n)+)", re.MULTILINE)
        text, found = section.subn(lambda match, table=table: f"{match[1]}{match[2]}{table}\n", text, count=1)
        assert found, f"{folder.name}/README.md has no table under ## {title}"
    return text


def _description(body: str) -> str:
    found = re.search(r'^  description\s+= (".*")$', body, re.MULTILINE)
    assert found is not None, body
    said: str = json.loads(found[1].replace("$${", "${"))
    return said.replace("|", "\\|")


def _default(body: str) -> str:
    """The default of a variable; for an object those of its optional attributes."""
    found = _DEFAULT.search(body)
    if found is None:
        return "required"
    default = " ".join(found[1].split())
    if default == "{}" and (attributes := _OPTIONAL.findall(body)):
        default = ", ".join(f"{name} = {value or 'null'}" for name, value in attributes)
        default = f"{{ {default} }}"
    return f"`{default}`"


if __name__ == "__main__":
    for place in modules():
        readme = place / "README.md"
        readme.write_text(with_tables(readme.read_text("utf-8"), place), "utf-8")
