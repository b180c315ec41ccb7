"""Words of errors that state neither a status code nor a name, and that no later call can get rid of.

An error in a reply of status 200 is tried again unless it is known to be final. These words are those of
servers about the request: GraphQL's validation, what does not exist, what is too long, what was not found.

Sources: spec.graphql.org (Validation, Coercion), github.com/graphql/graphql-js and graphql-java (their rules'
messages), docs.aws.amazon.com/appsync, a2a-protocol.org (errors), pydantic's errors of both versions,
serpapi.com and nominatim.org (no results).
"""

from __future__ import annotations

import re

_OF_GRAPHQL = re.compile(
    r"\bcannot query field\b|^\W*syntax error\b|\bmust (not )?have a (selection|sub ?selection)\b"
    r"|\bvariable ['\"]?\$\w+['\"]? (of|got|has|is|was|in|expected|cannot)\b"
    r"|\bis not defined by (type|operation)\b|\bis undefined\W*$|\bin type: ?'"
    r"|\bvalidation error (of type|\()|\b(doesn't|does not) exist on type\b"
    r"|\bunknown (argument|type|fragment|directive|operation)\b|\bno operation named\b"
    r"|\bmust provide (a |an )?(query|operation)|\b(is required but|was) not provided\b"
    r"|\bcannot represent\b.{0,40}\bvalue\b|\bexpected (value of )?type\b|\bhas an? invalid value\b"
    r"|\bdoes not exist in ['\"]?\w+['\"]? enum\b|\bpersistedquerynot(found|supported)\b",
    re.IGNORECASE | re.DOTALL,
)
"""Messages of GraphQL's servers about the document of the request. They have no code in many of them."""

_OF_VALIDATION = re.compile(
    r"\bensure this value\b|\bfield required\b|\bvalue is not a valid\b|\bnone is not an allowed value\b"
    r"|\binput should be\b|\bextra (fields|inputs) (are )?not permitted\b|\bvalidation failed\b"
    r"|\brequired (fields?|parameters?|arguments?) (is|are) missing\b|\bmissing required\b",
    re.IGNORECASE,
)
"""Pydantic, versions 1 and 2, without the names of its errors; GitHub, Salesforce and others."""

_INVALID = re.compile(
    r"^\W*invalid (?!.*\b(?:response|reply|upstream|server|gateway|backend|state|header|chunk|handshake"
    r"|connection|checksum|certificate|nonce|signature|tokens?|sessions?|keys?|credentials?|json|http"
    r"|status)\b)\w",
    re.IGNORECASE | re.DOTALL,
)
"""`Invalid address format`, but not `Invalid response from the upstream server`."""

_TOO_LONG = re.compile(
    r"\b(prompt|input|text|message|query|question|content|request|document|file|payload) (is |was )?"
    r"too (long|large)\b|\bmax(imum)? length\b",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"\b(was |is |were |could )?not (be )?found\b|\b(does|do|did)(n't| not) exist\b|\bno such \w"
    r"|(?:\bnot|n't) return(ed)? any results?\b|\bno (results?|matches|match|records?) (were |was )?found\b"
    r"|\bunable to geocode\b|\bunknown (tool|function|method|parameter|field|column|id)\b",
    re.IGNORECASE,
)
_OF_A_SERVER = re.compile(
    r"\b(host(name)?|servers?|upstream|backend|service|gateway|workers?|nodes?|shards?|leader|peer|pod"
    r"|replica|route|connection|dns|name resolution|getaddrinfo|enotfound|module|library|driver|socket"
    r"|lock|cache|cluster)\b",
    re.IGNORECASE,
)
"""Things that a server itself has not found, such as the host behind it: a later call may find them."""


def is_final_text(text: str) -> bool:
    """True if the text of an error says that the request is wrong, or that there is nothing to be found."""
    if any(pattern.search(text) for pattern in (_OF_GRAPHQL, _OF_VALIDATION, _INVALID, _TOO_LONG)):
        return True
    return _MISSING.search(text) is not None and _OF_A_SERVER.search(text) is None
