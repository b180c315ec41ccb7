"""Numbers in text: `1,234.5`, `£1.2m`, `3.5 million`, `(1,234.50)`, `50 Mbps`, without loss of digits.

A text is a number only if it has one reading. Bounds (`<5`), guesses (`~30`), ranges, parts (`12 of 30`),
dates, ordinals, versions and telephone numbers are none. A unit or percent sign is left out: `12 %` is 12.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Context, Decimal

from service.mapping.expressions.number_words import (
    CODES,
    ENGLISH,
    ENGLISH_UNITS,
    MULTIPLES,
    NO_UNITS,
    factor_of_money,
    is_multiple,
    is_multiple_of_money,
)

MAX_CHARS = 1_000
_EXACT = Context(prec=MAX_CHARS * 2)

# `¤` stands for every currency sign, see `_plain`.
_SIGN = r"(?:(?:US|AU?|CA?|HK|NZ|R|S|NT|MX)\s?)?¤"
_NAMES = (
    r"(?i:euros?|dollars?|dólar(?:es)?|francs?|franken|rupees?|rupiah|reais|pesos?|yen|yuan|renminbi|lira|lire|"
    r"krone|kroner|kronor|kronur|koruna|korun|zlot(?:y|ys|ych)|złot(?:y|ych)|forint|roubles?|rubles?|quid|"
    r"bucks|zł|kč|tl|dh)"
)
_CURRENCY = rf"(?:(?:(?:{CODES})\s*)?{_SIGN}|{CODES}|Rs\.?|kr\.?|Fr\.|{_NAMES})"
# A typographic apostrophe is written `'` before, see `_plain`.
_WORD = "[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]+"
_UNIT = r"(?:(?:[kcdm]?m|ft|in|yd|mi)[23]|[^\W\d_]{1,20}[²³]?)"
_DIGITS = r"""
    (?P<number>
        (?P<plain>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?P<exponent>[eE][-+]?[0-9]{1,3})?
      | (?P<comma_groups>[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?)
      | (?P<indian>[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?)
      | (?P<dot_groups>[1-9][0-9]{0,2}(?:\.[0-9]{3})+,[0-9]+ | [1-9][0-9]{0,2}(?:\.[0-9]{3}){2,})
      | (?P<blank_groups>[1-9][0-9]{0,2}(?:[ '][0-9]{3})+(?:[.,][0-9]+)?)
      | (?P<decimal_comma>0,[0-9]+ | [1-9][0-9]*,(?:[0-9]{1,2}|[0-9]{4,}) | [1-9][0-9]{3,},[0-9]+)
    )"""
_NUMBER = re.compile(
    rf"""(?P<open>\()?(?P<sign>[-+])?(?:(?P<before>{_CURRENCY})\s*)?(?P<inner_open>\()?(?P<inner_sign>[-+])?
        {_DIGITS}
        (?:(?P<gap>\s*)(?!per\s|{_CURRENCY}(?!\w))(?P<multiple>{_WORD})\.?(?![\w]))?
        (?:\s*(?P<after>{_CURRENCY})(?!\w))?
        (?P<unit>\s*(?:[%‰]|°?{_UNIT}|°)?(?:\s*(?:/|per\s)\s*{_UNIT})?)
        (?P<close>\))*""",
    re.VERBOSE,
)
_LETTERS = {"k": 10**3, "K": 10**3, "m": 10**6, "M": 10**6, "b": 10**9, "B": 10**9}
_LETTERS_WITHOUT_CURRENCY = frozenset({"k", "K", "M"})
"""`5m` may be metres or minutes and `5B` bytes, so only an amount of money has millions and billions so."""
_UNIT_LETTERS = frozenset("gVWshlLtpNJdÅ")
_SHORT_WORDS_OF_MONEY = frozenset({
    "c", "ct", "ea", "ex", "fee", "gst", "inc", "net", "off", "p", "pa", "pcm", "pp", "pw", "tax",
    "vat",
})  # fmt: skip
"""Other short words after an amount may be multiples of another language: `R$ 5 mi`, `Rp 5 jt`."""
_LONGEST_SHORT_WORD = 3
_PREFIXES_OF_UNITS = frozenset({"sq", "square", "cubic", "cu", "fl"})
_HUNDREDTHS = frozenset("\N{CENT SIGN}\N{FULLWIDTH CENT SIGN}\N{MILL SIGN}")
"""Signs of parts of a currency: `5¢` is not 5 of it."""
_SEPARATORS = {
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{ARABIC DECIMAL SEPARATOR}": ".",
    "\N{ARABIC THOUSANDS SEPARATOR}": ",",
}
_INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"
"""Zero-width characters and marks of direction, as they come around numbers of web pages."""
_DECADE = re.compile("[12][0-9]{2}0")
"""`1990s` are years and no seconds."""
_LONGEST_WITH_ZEROS = 4
_SHORTEST_TELEPHONE = 10
_ADDRESS_PARTS = 4
_ONE_MARK = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
_GROUP = 3
"""Digits of a group: 1,234,567."""
_MONEY_WITH_COMMA = re.compile(
    r"(?:[€₽₺₴₫₪]|R\$)\s|[0-9]\s*(?:[€₽₺₴₫₪]|kr\b|(?:euros?|reais|pesos?|lir[ae]|kron\w+|zlot\w+|forint)\b"
    r"|zł|kč|(?:EUR|BRL|ARS|CLP|COP|CZK|DKK|NOK|SEK|PLN|HUF|RON|RUB|TRY|UAH|IDR|VND|BGN)\b)",
    re.IGNORECASE,
)
"""Money as it is written where a comma stands before decimals. `€1,200` is the way of English texts."""
_OTHER_DIGITS = re.compile(r"[0-9][²³]|(?![²³])[^\W\d_](?<=[¹⁰-₟¼-¾⅐-↋①-⓿])")
"""Powers and fractions: `10²`, `3½`. Only units have a `²`."""
_OTHER_SCRIPTS = re.compile(r"(?![µμΩℓ℃℉Å])[^\W\d_](?<=[^\x00-\u024f\uff00-\uffef])")
"""A letter of another script than Latin: `5万` and `3 млн` have multiples that a unit must not hide."""
_DECORATION = re.compile(r"(\*\*|\*|__|`|\"|“)(.+?)(\*\*|\*|__|`|\"|”)")


def number_in(text: str) -> int | Decimal | None:
    """The number that a text states, or None."""
    if len(text) > MAX_CHARS:
        return None
    original, text = text, _plain(text)
    decorated = _DECORATION.fullmatch(text)
    if decorated is not None and decorated[1] == decorated[3].replace("”", "“"):
        text = decorated[2].strip()
    match = _NUMBER.fullmatch(text)
    if match is None or not _has_one_sign(match) or _OTHER_DIGITS.search(text) or _OTHER_SCRIPTS.search(text):
        return None
    factor = _factor(match)
    digits = _digits(match, has_currency=_has_currency(match))
    if factor is None or digits is None or _is_a_thousand_or_one(match, _MONEY_WITH_COMMA.search(original)):
        return None
    is_negative = "-" in (match["sign"], match["inner_sign"]) or "(" in (match["open"], match["inner_open"])
    number = Decimal(f"{'-' if is_negative else ''}{digits}")
    if factor != 1:
        number = _EXACT.multiply(number, Decimal(factor))
        return int(number) if number == number.to_integral_value() else number.normalize(_EXACT)
    return number if re.search(r"[.eE]", digits) else int(number)


def _plain(text: str) -> str:
    """The text with ASCII digits, dashes, blanks and marks, and `¤` for every currency sign."""
    return "".join(map(_plain_character, text)).strip().strip(_INVISIBLE).strip()


def _plain_character(character: str) -> str:
    if character.isascii() or character in _HUNDREDTHS:
        return "¤" if character == "$" else character
    if "\uff01" <= character <= "\uff5e":  # full-width forms of ASCII
        return _plain_character(chr(ord(character) - 0xFEE0))
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category in {"Pd", "Zs"} or character == "\N{MINUS SIGN}":
        # A blank that does not break a line separates groups of digits; here every blank does.
        return " " if category == "Zs" else "-"
    if category == "Sc" or character in "円元圓원":
        return "¤"
    return _SEPARATORS.get(character, character)


def _has_one_sign(match: re.Match[str]) -> bool:
    """True if sign and brackets agree: none, one sign, or one pair of brackets."""
    signs = [match["sign"], match["inner_sign"]]
    brackets = [match["open"], match["inner_open"]]
    opening = sum(one is not None for one in brackets)
    return opening + sum(one is not None for one in signs) <= 1 and match.string.count(")") == opening


def _has_currency(match: re.Match[str]) -> bool:
    has_sign = bool(match["before"] or match["after"]) or "¤" in match["unit"]
    return has_sign or is_multiple_of_money(match["multiple"] or "")


def _factor(match: re.Match[str]) -> int | None:
    """The factor of `million` or `k`; 1 without one. None for a word that is no unit."""
    word = (match["multiple"] or "").lower()
    if word == "n" and match["unit"].strip().lower() == "/a":
        return None  # not applicable
    unit = match["unit"].strip().split("/")[0].split(" per ")[0].strip()
    factor = MULTIPLES.get(word)
    if factor is None and len(word) == 1:
        factor = _letter_factor(match, match["multiple"])
    elif factor is None and is_multiple_of_money(match["multiple"] or ""):
        has_other = bool(match["before"] or match["after"] or unit)
        factor = None if has_other else factor_of_money(match["multiple"])
    elif factor is None:
        is_unit = match["multiple"] != "MM" and _is_unit(word, unit, has_currency=_has_currency(match))
        factor = 1 if is_unit else None
    if factor is None or _is_no_unit(unit) or _is_two_amounts(match):
        return None
    if factor != 1 and (match["exponent"] or unit in _LETTERS):
        return None  # `2e3k`, `5 million k`
    second = MULTIPLES.get(unit.lower(), 1)
    # `2 hundred thousand`, but not `5k million`.
    return None if second != 1 and word not in MULTIPLES else factor * second


def _is_no_unit(word: str) -> bool:
    """True for a word that makes its number another one, or none."""
    lower = word.lower()
    return lower in NO_UNITS or is_multiple(lower) or is_multiple_of_money(word)


def _is_two_amounts(match: re.Match[str]) -> bool:
    """True if there are signs of currencies on both sides: `$5€`."""
    return "¤" in (match["before"] or "") and "¤" in (match["after"] or "")


def _is_unit(word: str, unit: str, *, has_currency: bool) -> bool:
    """True if a number keeps its value before `word`, which is "" or no known multiple, and before `unit`."""
    if not word:
        return True
    if word in NO_UNITS or is_multiple(word) or (word == "mm" and has_currency):
        return False  # `$5mm` are millions in finance
    if has_currency and len(word) <= _LONGEST_SHORT_WORD and word not in _SHORT_WORDS_OF_MONEY:
        return False
    # Two words, and the first is no multiple: `12 people left`.
    return not unit or word in _PREFIXES_OF_UNITS or unit == "old"


def _letter_factor(match: re.Match[str], letter: str) -> int | None:
    if _has_currency(match):
        return _LETTERS.get(letter)
    if match["gap"]:
        # `1.8 m` are metres, `10 k` are thousands, `300 K` are kelvins.
        return {"k": 10**3, "m": 1}.get(letter, 1 if letter in _UNIT_LETTERS else None)
    if letter in _LETTERS_WITHOUT_CURRENCY:
        return _LETTERS[letter]
    if letter == "s" and _DECADE.fullmatch(match["number"]):
        return None
    return 1 if letter in _UNIT_LETTERS else None


def _digits(match: re.Match[str], *, has_currency: bool) -> str | None:
    """The digits with a decimal point; None if they may mean something else."""
    text: str = match["number"]
    if match["plain"]:
        return _plain_digits(match, text, has_currency=has_currency)
    if match["comma_groups"] or match["indian"]:
        return text.replace(",", "")
    if match["dot_groups"]:
        parts = text.split(".")
        is_address = len(parts) == _ADDRESS_PARTS and "," not in text and not has_currency
        return None if is_address else text.replace(".", "").replace(",", ".")
    if match["decimal_comma"]:
        # `1,5` alone may be a list of two numbers.
        is_amount = has_currency or match["multiple"] or match["unit"].strip() or text.startswith("0")
        is_list = not is_amount and text.index(",") <= _GROUP
        return None if is_list else text.replace(",", ".")
    return _grouped_digits(match, text, has_currency=has_currency)


def _is_a_thousand_or_one(match: re.Match[str], money_with_comma: re.Match[str] | None) -> bool:
    """True for `1,234 kg` and `1.234 kg`: one mark before three digits is that of thousands or of decimals.

    Alone, as an amount of dollars, and before an English word, such a number has its English meaning.
    """
    text: str = match["number"]
    if not (_ONE_MARK.fullmatch(text) and (match["comma_groups"] or match["plain"])):
        return False
    if money_with_comma:
        return True
    word, unit = (match["multiple"] or "").lower(), match["unit"].strip()
    if word in ENGLISH or word in ENGLISH_UNITS:
        return False
    if word in MULTIPLES or _has_currency(match):
        return word in MULTIPLES
    # Before a percent sign a point stands before decimals: thousands of percent are rare.
    return bool(word or unit) and not (match["plain"] and unit in {"%", "‰"})


def _grouped_digits(match: re.Match[str], text: str, *, has_currency: bool) -> str | None:
    whole, *rest = re.split("[.,]", text)
    separators = set(re.findall(r"[^0-9]", whole))
    groups = re.split(r"[^0-9]", whole)
    # Telephone numbers have three groups of three digits, or begin with a plus.
    is_like_a_telephone = match["sign"] == "+" or (len(groups) > 2 and len(groups[0]) == _GROUP)  # noqa: PLR2004
    if len(separators) > 1 or (" " in separators and is_like_a_telephone and not rest and not has_currency):
        return None
    return ".".join(["".join(groups), *rest])


def _plain_digits(match: re.Match[str], text: str, *, has_currency: bool) -> str | None:
    whole, mark, rest = match["plain"].partition(".")
    is_padded = whole.startswith("0") and len(whole) > _LONGEST_WITH_ZEROS
    is_telephone = match["sign"] == "+" and not mark and len(whole) >= _SHORTEST_TELEPHONE
    # 1.234 euros are as likely one thousand as one: an amount has two decimals.
    has_three = len(rest) == _GROUP and 1 <= len(whole) <= _GROUP and whole != "0"
    word = match["multiple"] or ""
    # So are 1.234 Mio. in German; before an English word the point has its English meaning.
    is_foreign = is_multiple_of_money(word) or word.lower() in MULTIPLES.keys() - ENGLISH
    is_ambiguous = has_three and ((has_currency and not word) or is_foreign)
    is_reference = bool(match["open"]) and len(whole) > 1 and whole.startswith("0")
    if is_padded or is_telephone or is_reference or is_ambiguous:
        return None
    return text
