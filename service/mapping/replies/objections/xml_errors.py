"""XML documents that are no answer: errors of AWS and its like, faults of SOAP, exceptions of OGC's services.

| the document is | it is |
| --- | --- |
| `<Error><Code>…` of S3, `<ErrorResponse>` of AWS's query interfaces, `<error>` | the error that it names |
| an envelope of SOAP with a `Fault` | the same: a `Server` is tried again, a `Client` is rejected |
| an element with the attribute `status="error"` or `stat="fail"` (Flickr) | the same |
| `<ExceptionReport>`, `<ServiceExceptionReport>` | the same |

Sources: docs.aws.amazon.com/AmazonS3 (ErrorResponses; CopyObject may send an error with status 200),
w3.org/TR/soap12 (SOAP Fault), ogc.org (OWS Common).
"""

from __future__ import annotations

import html
import re

from service.domain.errors import AgentRejectedError
from service.domain.model import Json
from service.mapping.replies.objections.classification import stated_error
from service.mapping.replies.objections.objection import Objection, Objections, in_words

_MAX_CHARS = 8 * 2**10
_ROOT = re.compile(r"\ufeff?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:[\w.-]+:)?(\w+)", re.DOTALL)
_ERRORS = frozenset({"error", "errorresponse", "exceptionreport", "serviceexceptionreport", "fault"})
_STATUS = re.compile(r"""[^>]*\s(?:status|stat|state)=["'](?:error|fail|failed|failure)["']""", re.IGNORECASE)
_FAULT = re.compile(r"<(?:[\w.-]+:)?Body\b[^>]*>\s*<(?:[\w.-]+:)?Fault\b")
_CODE = re.compile(
    r"<(?:[\w.-]+:)?(?:code|faultcode|errorcode|value)\b[^>]*>([^<]{1,200})<|\b(?:exceptionCode|code)=\"([^\"]{1,200})\"",
    re.IGNORECASE,
)
_TEXT = re.compile(
    r"<(?:[\w.-]+:)?(?:message|msg|faultstring|text|reason|exceptiontext|serviceexception|description"
    r"|errormessage)\b[^>]*>\s*([^<]{1,500})|\b(?:msg|message)=\"([^\"]{1,500})\"",
    re.IGNORECASE,
)
_OF_THE_CALLER = ("client", "sender")


def find_xml_errors(document: Json) -> Objections:
    """The error of a reply that is such a document."""
    if not isinstance(document, str) or (match := _ROOT.match(document)) is None:
        return
    root, text = match[1].lower(), document[:_MAX_CHARS]
    is_fault = root == "envelope" and _FAULT.search(text) is not None
    if root not in _ERRORS and not is_fault and _STATUS.match(document, match.end()) is None:
        return
    code = next((found[1] or found[2] for found in _CODE.finditer(text)), "").strip()
    said = next((html.unescape(found[1] or found[2]) for found in _TEXT.finditer(text)), "").strip()
    detail = ": ".join(part for part in (code, said) if part)
    code = code.rpartition(":")[2]
    if code.lower() in _OF_THE_CALLER:
        yield Objection(AgentRejectedError(in_words("the reply is an error in XML", detail)))
    else:
        yield stated_error({"code": code, "message": said}, "the reply is an error in XML", detail, "")
