"""Builds definitions.csv and training.csv from WordNet 3.0. Needed only to update the data.

apt-get install wordnet-base
python examples/classify/build_data.py /usr/share/wordnet/data.noun
"""

import csv
import hashlib
import re
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
CATEGORIES = {
    "05": "animal",
    "06": "artifact",
    "08": "body",
    "13": "food",
    "15": "place",
    "18": "person",
    "20": "plant",
    "27": "substance",
}
"""Lexicographer file number (lexnames(5WN)) -> name of the category."""

LEFT_OUT = re.compile(
    r"slur|offensive|disparag|derog|obscene|slang|ethnic|racis|negro|sexual|genital|penis|vagina|vulva|clitor"
    r"|testi[cs]|scrot|semen|coit|copulat|prostitut|rape|lesbian|gay|erotic|whore|slut|retard|nazi|suicid|anus"
)
"""Words that a demonstration should not show."""

TRAINING = 500
ROWS = 100
LENGTHS = range(25, 121)

Entry = tuple[str, str, str]


def entries(path: Path) -> dict[str, list[Entry]]:
    """(word, definition, category) by category, in a fixed pseudo-random order."""
    found: dict[str, dict[str, Entry]] = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines():
        fields, _, gloss = line.partition(" | ")
        if line.startswith(" ") or fields.split()[1] not in CATEGORIES:
            continue
        word = fields.split()[4].replace("_", " ")
        definition = re.split(r'[;:] "|;', gloss)[0].strip()
        if word.islower() and len(definition) in LENGTHS and not LEFT_OUT.search(f"{word} {gloss}".lower()):
            category = CATEGORIES[fields.split()[1]]
            found[category].setdefault(definition, (word, definition, category))
    return {category: sorted(by_text.values(), key=_shuffled) for category, by_text in found.items()}


def _shuffled(entry: Entry, purpose: str = "choose") -> str:
    return hashlib.sha256("|".join((purpose, *entry)).encode()).hexdigest()


def write(name: str, header: Entry, rows: list[Entry]) -> None:
    """Write a CSV file beside this script."""
    with (HERE / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(sorted(rows, key=lambda entry: _shuffled(entry, "mix")))


if __name__ == "__main__":
    by_category = entries(Path(sys.argv[1]))
    train = [entry for some in by_category.values() for entry in some[:TRAINING]]
    rows = [entry for some in by_category.values() for entry in some[TRAINING : TRAINING + ROWS]]
    write("training.csv", ("Word", "Definition", "Category"), train)
    write("definitions.csv", ("Word", "Definition", "Known category"), rows)
