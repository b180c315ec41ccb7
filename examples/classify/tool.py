"""A tool that classifies dictionary definitions: animal, plant, person ...

A multinomial naive Bayes classifier over words, trained on training.csv when it is first called (a few
hundredths of a second). For `invoke: python`, `function: examples.classify.tool:classify`.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[a-z]+")
SMOOTHING = 0.3
"""Added to every count, so that a word that was never seen with a category does not exclude that category."""

TEMPERATURE = 2.5
"""Softens the probabilities, because naive Bayes assumes independent words and is overconfident.

The value has the least log loss in a five-fold cross-validation on training.csv.
"""

MAX_CHARS = 10_000


@dataclass(frozen=True, slots=True)
class Model:
    """Log-probabilities. `unseen` has, by category, that of a word which was never seen with the category."""

    priors: Mapping[str, float]
    words: Mapping[str, Mapping[str, float]]
    unseen: Mapping[str, float]
    vocabulary: frozenset[str]


def classify(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer `text` with `category`, `confidence_score` (0 to 1) and the `runner_up`.

    Raises ValueError if there is no text, or no word that the model knows.
    """
    text = str(request.get("text") or "")[:MAX_CHARS]
    probabilities = _probabilities(_model(), text)
    (best, confidence), (second, _) = sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))[:2]
    return {"category": best, "confidence_score": round(confidence, 4), "runner_up": second}


def _features(text: str) -> list[str]:
    """Words, and pairs of adjacent words."""
    words = _WORD.findall(text.lower())
    return words + [f"{a} {b}" for a, b in itertools.pairwise(words)]


def _probabilities(model: Model, text: str) -> dict[str, float]:
    known = [feature for feature in _features(text) if feature in model.vocabulary]
    if not known:
        raise ValueError(
            "the text holds no word that this classifier knows" if text.strip() else "text is empty"
        )
    scores = {
        category: prior
        + sum(model.words[category].get(feature, model.unseen[category]) for feature in known) / TEMPERATURE
        for category, prior in model.priors.items()
    }
    best = max(scores.values())
    weights = {category: math.exp(score - best) for category, score in scores.items()}
    total = math.fsum(weights.values())
    return {category: weight / total for category, weight in weights.items()}


@cache
def _model() -> Model:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    texts: Counter[str] = Counter()
    with (Path(__file__).parent / "training.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            counts[row["Category"]].update(_features(row["Definition"]))
            texts[row["Category"]] += 1
    vocabulary = frozenset().union(*counts.values())
    totals = {category: some.total() + SMOOTHING * len(vocabulary) for category, some in counts.items()}
    return Model(
        priors={category: math.log(number / texts.total()) for category, number in sorted(texts.items())},
        words={
            category: {word: math.log((n + SMOOTHING) / totals[category]) for word, n in some.items()}
            for category, some in counts.items()
        },
        unseen={category: math.log(SMOOTHING / total) for category, total in totals.items()},
        vocabulary=vocabulary,
    )
