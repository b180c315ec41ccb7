"""Mistakes in expressions in the words of their author: what is wrong, and a remedy for that cause."""

from __future__ import annotations

import re

from jmespath.exceptions import JMESPathError, LexerError, ParseError

from service.mapping.syntax.problems import CompileError

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`", re.DOTALL)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_QUOTED_KEY = 'a key with other characters than letters, digits and _ stands in double quotes: "Post code"'
_IN_BRACKETS = "in brackets stands an index [0], a part [0:2], [*] or a condition [?a == 'b']"
_DOTTED_INDEX = re.compile(r"\.\s*\[(?=\s*-?[0-9]+\s*\])")
_OPERATORS = {"and": "&&", "or": "||", "not": "!"}
_ENDS_EARLY = re.compile(r"(\.|\|\|?|&&|[=!<>]=|[<>!,:])\s*$")


def syntax_error(text: str, error: Exception) -> CompileError:
    """The error for an expression that the parser refuses."""
    place = _place(text, error)
    message, hint = _explanation(text, place)
    return CompileError(f"expression {text!r}: {message}", hint)


def unexpected(text: str, place: int) -> CompileError:
    """The error for an expression that goes on where it should end; `place` is an index into the text."""
    message, hint = _explanation(text, place)
    return CompileError(f"expression {text!r}: {message}", hint)


def check_indexes(text: str) -> None:
    """Raise CompileError for a dot before an index, which JMESPath would read as a list of that number."""
    if (found := _DOTTED_INDEX.search(_masked(text))) is None:
        return
    start = found.start()
    raise CompileError(
        f"expression {text!r}: a dot before the [ at character {found.end()}",
        f"write {text[:start]}{text[start + 1 :]}",
    )


def _masked(text: str) -> str:
    """The expression with an x for each character in quotes, which can be anything."""
    return _QUOTED.sub(lambda match: match[0][0] + "x" * (len(match[0]) - 2) + match[0][0], text)


def _place(text: str, error: Exception) -> int:
    if isinstance(error, LexerError):
        return int(error.lexer_position)
    if isinstance(error, ParseError) and isinstance(error, JMESPathError):
        return int(error.lex_position)
    return len(text)


def _explanation(text: str, place: int) -> tuple[str, str]:
    """The mistake and its remedy."""
    masked = _masked(text)
    return (
        _quotes(text)
        or _other_languages(text, masked)
        or _brackets(masked)
        or _ends(text, masked)
        or _at_place(text, masked, place)
    )


def _quotes(text: str) -> tuple[str, str] | None:
    # A quote that the mask has left alone has no partner.
    rest = _QUOTED.sub(lambda match: "x" * len(match[0]), text)
    if (alone := re.search("['\"`]", rest)) is None:
        return None
    quote = alone[0]
    return (
        f"the {quote} at character {alone.start() + 1} is not closed",
        f"is a closing {quote} missing? Inside quotes it is written \\{quote}",
    )


def _other_languages(text: str, masked: str) -> tuple[str, str] | None:
    """Syntax of JSONPath, templates and references, which JMESPath lacks."""
    if (dots := masked.find("..")) >= 0:
        return (
            f"two dots at character {dots + 1}: there is no search at any depth",
            "write the whole path, with [*] for every item of a list",
        )
    if (bracket := re.search(r"\[\s*(['\"])(x*)\1\s*\]", masked)) is not None:
        key = text[bracket.start(2) : bracket.end(2)]
        plain = key if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) else f'"{key}"'
        before = text[: bracket.start()]
        return (
            f"a key in brackets at character {bracket.start() + 1}",
            f"write {f'{before}.{plain}' if before else plain}",
        )
    if "${" in masked:
        return "${…} is no part of an expression", "the environment and secrets are for the options of target"
    if "{{" in masked:
        return "{{ }} is for templates", "an expression is a path such as $.a"
    if (call := re.search(r"\bparse(?:_all)?\(\s*([^'\")\s])", masked)) is not None:
        where = f"at character {call.start(1) + 1}"
        return f"the pattern of parse {where} is not quoted", "write parse('Exchange: (.+)')"
    return None


def _brackets(masked: str) -> tuple[str, str] | None:
    """A bracket without its partner."""
    open_: list[tuple[str, int]] = []
    for place, character in enumerate(masked):
        if character in _CLOSING:
            open_.append((character, place))
        elif character in _CLOSING.values():
            if not open_ or _CLOSING[open_[-1][0]] != character:
                opening = next(key for key, value in _CLOSING.items() if value == character)
                return (
                    f"the {character} at character {place + 1} has no {opening}",
                    f"add the {opening}, or take it out",
                )
            open_.pop()
    if not open_:
        return None
    character, place = open_[-1]
    return (
        f"the {character} at character {place + 1} has no {_CLOSING[character]}",
        f"add the {_CLOSING[character]}",
    )


def _ends(text: str, masked: str) -> tuple[str, str] | None:
    """An expression that begins too late or ends too early."""
    if (end := _ENDS_EARLY.search(masked)) is not None:
        mark = end[1]
        remedies = {".": "a key follows, or leave the dot out", "|": "a transform follows: | trim()"}
        return f"ends after {mark!r}", remedies.get(mark, "a value follows")
    if (start := re.match(r"\s*(\.|\||&&|,|\)|\])", masked)) is not None:
        remedy = f"write ${text.strip()}" if start[1] == "." else "a path stands first"
        return f"begins with {start[1]!r}", remedy
    return None


def _at_place(text: str, masked: str, place: int) -> tuple[str, str]:
    """The mistake at the place where the parser gave up."""
    found = masked[place : place + 1]
    if not found:
        return "is incomplete", "a path such as $.a, or a call such as $.a | trim()"
    message = f"unexpected {found!r} at character {place + 1}"
    return message, _remedy(text, masked, place, found)


def _remedy(text: str, masked: str, place: int, found: str) -> str:
    before = masked[:place].rstrip()
    if (word := re.match(r"(and|or|not)\b", masked[place:], re.IGNORECASE)) is not None:
        return f"{word[1]} is written {_OPERATORS[word[1].lower()]}"
    is_key = found.isalnum() or found in "_-/#:+*%&;~\\@?" or not found.isascii()
    if re.search(r"\[[^\]]*$", before) and found != "=":
        return _IN_BRACKETS
    if before == "$" and (found.isalpha() or found == "_"):
        return f"write $.{text[place:].strip()}"
    if before.endswith(("]", ")", "$")) and is_key:
        return "a dot or a pipe is missing before it"
    if is_key:
        return _quoted_key(text, masked, place)
    remedies = {"$": "$ is the root and can only begin a path", "=": "values are compared by =="}
    return remedies.get(found, "take it out, or put the text around it in single quotes")


def _quoted_key(text: str, masked: str, place: int) -> str:
    """The remedy for a key that needs quotes, with that key."""
    start = max(masked.rfind(mark, 0, place) for mark in ".|([,!=<>&") + 1
    ends = [found for mark in ".|[],()=<>&" if (found := masked.find(mark, place)) >= 0]
    end = min(ends, default=len(text))
    key = text[start:end].strip()
    if not key or '"' in key or "'" in key:
        return _QUOTED_KEY
    return f'a key with such characters stands in double quotes: {text[:start]}"{key}"'
