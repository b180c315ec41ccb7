"""Words beside a number: multiples (`million`, `TEUR`), and words that make it another number or none.

Units are an open class: `50 Mbps`, `12 employees`, `3 Zimmer`. Multiples are a closed one, in each language.
So every word is a unit unless it is a multiple, or like one: then its number is known, or there is none.
"""

from __future__ import annotations

import re

CODES = (
    "AED|ARS|AUD|BGN|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|HKD|HUF|IDR|ILS|INR|JPY|KRW|MXN|MYR|NGN|NOK|"
    "NZD|PEN|PHP|PKR|PLN|RMB|RON|RUB|SAR|SEK|SGD|THB|TRY|TWD|UAH|USD|VND|ZAR"
)
_MILLIONS = (
    *("million", "millions", "mio", "mln", "millionen", "millones", "milhões", "miljoen", "miljoner"),
    *("milioni", "milionów", "milyon"),
)
_MILLIARDS = (
    *("billion", "billions", "bn", "bln", "milliard", "milliards", "milliarde", "milliarden", "mrd", "mld"),
    *("miljard", "miljarder", "miliardi", "miliardów", "milyar"),
)
MULTIPLES = {
    **dict.fromkeys(("hundred",), 10**2),
    **dict.fromkeys(("thousand", "thousands", "tausend", "tusen", "duizend", "tys"), 10**3),
    **dict.fromkeys(("lakh", "lakhs"), 10**5),
    **dict.fromkeys(_MILLIONS, 10**6),
    **dict.fromkeys(("crore", "crores"), 10**7),
    **dict.fromkeys(_MILLIARDS, 10**9),
    **dict.fromkeys(("trillion", "trillions", "tn", "trn"), 10**12),
}
_MONTHS = frozenset({
    "abril", "agosto", "août", "aprile", "augusti", "augustus", "avril", "dez", "dezember", "dezembro",
    "dic", "dicembre", "diciembre", "déc", "décembre", "enero", "febbraio", "febrero", "februar",
    "februari", "fevereiro", "février", "gennaio", "giugno", "janeiro", "januar", "januari", "janvier",
    "juillet", "juin", "julho", "juli", "julio", "junho", "juni", "junio", "luglio", "maart", "maggio",
    "mai", "maio", "maj", "mars", "marzo", "março", "mayo", "mei", "märz", "novembre", "novembro",
    "noviembre", "octobre", "octubre", "okt", "oktober", "ottobre", "outubro", "septembre",
    "septiembre", "setembro", "settembre",
})  # fmt: skip
_OTHER_MULTIPLES = frozenset({
    "bi", "bil", "bilion", "bilj", "bill", "billiard", "billiarde", "billiarden", "bio", "elfu", "jt",
    "mia", "mijë", "miliar", "miliard", "miliardo", "milion", "milione", "milió", "milj", "mill",
    "millon", "ming", "mjd", "mlr", "mlrd", "myriad", "myriads", "nghìn", "ngàn", "quadrillion",
    "quintillion", "rb", "sextillion", "thou", "tis", "tisíc", "tri", "tril", "triliun", "trilj",
    "trillionen", "trillones", "trl", "trln", "tsd", "tuh", "tūkst", "zillion",
})  # fmt: skip
"""Multiples of other languages, and names whose value differs between countries."""
NO_UNITS = _MONTHS | _OTHER_MULTIPLES | frozenset({
    "a", "about", "above", "ad", "ago", "am", "and", "approx", "approximately", "apr", "april", "at",
    "aug", "august", "av", "bc", "bce", "below", "bilhão", "bilhões", "biljoen", "billionen",
    "billones", "billón", "bin", "bis", "by", "cca", "ce", "circa", "couple", "cr", "credit", "debit",
    "dec", "december", "dozen", "dozens", "dr", "e", "eme", "er", "est", "estimated", "fach", "feb",
    "february", "few", "fewer", "fifth", "fifths", "fold", "grand", "gross", "half", "halves", "higher",
    "hundert", "hundreds", "hundredth", "hundredths", "in", "ish", "jan", "january", "jul", "july",
    "jun", "june", "juta", "kk", "lac", "lacs", "less", "lower", "mal", "mar", "march", "max",
    "maximum", "may", "md", "midday", "midnight", "mil", "milhão", "milione", "miljon", "mille",
    "millionth", "millón", "minimum", "minus", "mn", "more", "nd", "nil", "noon", "nov", "november",
    "oclock", "oct", "october", "odd", "oder", "of", "on", "or", "ou", "out", "over", "overdrawn",
    "pair", "pairs", "percentile", "plus", "pm", "point", "quarter", "quarters", "rd", "ribu",
    "roughly", "score", "scores", "sep", "sept", "september", "several", "something", "st", "sur",
    "tens", "tenth", "tenths", "th", "third", "thirds", "thousandth", "thousandths", "times", "to",
    "tuhat", "tusind", "uhr", "under", "up", "von", "vs", "x", "zehn", "zero", "ª", "º", "ème",
})  # fmt: skip
"""Words after a number that make it another one, a part, a bound, a date or a place in an order."""
ENGLISH = frozenset({
    "hundred", "thousand", "thousands", "lakh", "lakhs", "million", "millions", "crore", "crores", "billion",
    "billions", "bn", "bln", "trillion", "trillions", "tn", "trn",
})  # fmt: skip
"""Multiples before which a point stands before decimals."""
ENGLISH_UNITS = frozenset({
    "accounts", "acres", "addresses", "answers", "apartments", "beds", "books", "buildings", "bushels",
    "businesses", "calls", "characters", "citizens", "companies", "cubic", "customers", "days",
    "deaths", "employees", "entries", "errors", "feet", "flights", "foot", "gallon", "gallons", "grams",
    "homes", "hours", "households", "inch", "inches", "inhabitants", "installs", "kilograms",
    "kilometers", "kilometres", "listings", "locations", "members", "meters", "metres", "mile", "miles",
    "months", "names", "nights", "orders", "ounce", "ounces", "people", "pieces", "pound", "pounds",
    "products", "ratings", "records", "residents", "respondents", "results", "reviews", "rooms", "rows",
    "sales", "seats", "seconds", "square", "staff", "steps", "students", "subscribers", "units",
    "users", "vehicles", "visitors", "visits", "weeks", "words", "workers", "yards", "years",
})  # fmt: skip
"""Words for units and things that only English has: a number before one is written in the English way."""
_DOZENS = frozenset({
    "centaine", "centaines", "centena", "centenares", "centenas", "centinaia", "centinaio", "decena",
    "decenas", "decina", "decine", "dezena", "dezenas", "dizaine", "dizaines", "docena", "docenas",
    "douzaine", "douzaines", "doz", "dozijn", "dozijnen", "dozzina", "dozzine", "dtz", "dtzd", "dusin",
    "dussin", "dutzend", "dutzende", "duzina", "duzine", "dz", "dzn", "dzs", "dúzia", "dúzias", "gros",
    "gruesa", "gruesas", "honderden", "honderdtal", "hunderte", "hundertschaft", "hundratals",
    "hundredtals", "lusin", "paar", "paia", "paio", "paire", "paires", "pares", "quinzaine",
    "quinzaines", "schock", "tiental", "tientallen", "tiotal", "trentaine", "tucat", "tucet", "tucty",
    "tusin", "tuzin", "tuziny", "tuzinów", "ventina", "vingtaine", "vingtaines",
})  # fmt: skip
"""Numbers of things: dozens, pairs, tens and hundreds."""
_THOUSANDS = frozenset({
    "arab", "bins", "bns", "crs", "duizenden", "ezer", "hazaar", "hazar", "hezar", "kharab", "libo",
    "lk", "lkh", "lks", "mdkr", "mdr", "mds", "mie", "migliaia", "migliaio", "mii", "mila", "milers",
    "milhar", "milhares", "miliaia", "millar", "millares", "millier", "milliers", "mills", "mils",
    "mios", "mkr", "mnkr", "mns", "myr", "tausende", "thds", "thnd", "tho", "thous", "ths", "thsd",
    "tisoč", "tisuća", "tisuće", "tisíce", "tkr", "toman", "triệu", "trăm", "tuhandet", "tuhannet",
    "tuhatta", "tusen", "tusental", "tusenvis", "tusinde", "tysiąc", "tysiące", "tysięcy",
    "tūkstančiai", "tūkstančių", "tūkstoši", "tūkstošu", "tỉ", "tỷ", "þúsund",
})  # fmt: skip
"""Thousands and other multiples of further languages, with their short forms."""
_LIKE_A_MULTIPLE = re.compile(
    r"mill?[ijyhí]{1,2}(?!ohm)(?:[oóõãô]|jun|[aá]rd|ar(?!c))\w*|(?:b|tr)ill?[ijyhí]{1,2}[oóõãu]\w*"
)
"""`milione`, `miljoonaa`, `milijarda`, `bilyon`: a million is written so in most languages."""

_OLD_CODES = (
    "DM|DEM|ATS|FRF|ITL|ESP|BEF|NLG|FIM|IEP|PTE|GRD|SKK|HRK|KWD|QAR|BHD|OMR|KES|GHS|MAD|TND|UYU|BOB|ISK"
)
_ANY_CASE = "EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|HUF|JPY|CNY|INR|AUD|NZD|SGD|HKD|ZAR|BRL|MXN|DM"
_PREFIX = r"[TtKkMmBbG]|MM|Mm|mm|[Mm](?:io|ln|rd|ld|n|d)|[Bb](?:n|ln)|[Tt](?:sd|n)|[Cc]r|[Ll]"
_MULTIPLE_OF_MONEY = re.compile(
    rf"(?P<before>{_PREFIX})(?P<code>{CODES}|{_OLD_CODES}|(?i:{_ANY_CASE}))"
    rf"|(?P<code_first>{CODES}|{_OLD_CODES}|(?i:{_ANY_CASE}))(?P<after>{_PREFIX})"
)
_FACTORS_OF_MONEY = {
    **dict.fromkeys(("k", "tsd"), 10**3),
    **dict.fromkeys(("M", "m", "MM", "mm", "mio", "mln", "mn"), 10**6),
    **dict.fromkeys(("B", "b", "bn", "bln", "mrd", "mld", "md"), 10**9),
}
_GERMAN = frozenset({"EUR", "CHF", "DM"})
"""Currencies before which T stands for thousand; before others it may stand for trillion."""


def is_multiple(word: str) -> bool:
    """True for a word in lower case that is a multiple, or like one, without a known number."""
    return word in _DOZENS or word in _THOUSANDS or _LIKE_A_MULTIPLE.fullmatch(word) is not None


def is_multiple_of_money(word: str) -> bool:
    """True for a currency's code with a multiple: `TEUR`, `kUSD`, `GBPm`."""
    return _MULTIPLE_OF_MONEY.fullmatch(word) is not None


def factor_of_money(word: str) -> int | None:
    """The factor of such a word; None if it is not certain."""
    match = _MULTIPLE_OF_MONEY.fullmatch(word)
    if match is None:
        return None
    multiple = match["before"] or match["after"]
    code = (match["code"] or match["code_first"]).upper()
    if multiple in {"T", "t"}:
        return 10**3 if match["before"] == "T" and code in _GERMAN else None
    return _FACTORS_OF_MONEY.get(multiple, _FACTORS_OF_MONEY.get(multiple.lower()))
