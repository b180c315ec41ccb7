"""XML documents that are errors; others are answers."""

import json

import pytest

from service.domain.errors import (
    AgentCredentialsError,
    AgentRejectedError,
    AgentThrottledError,
    AgentUnavailableError,
    RowfleetError,
)
from service.mapping import Catalog

S3 = "<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
QUERY = (
    '<ErrorResponse xmlns="http://iam.amazonaws.com/doc"><Error><Type>Sender</Type><Code>Throttling</Code>'
    "<Message>Rate exceeded</Message></Error></ErrorResponse>"
)
SOAP = (
    '<soap:Envelope xmlns:soap="http://s"><soap:Body><soap:Fault><faultcode>soap:{}</faultcode>'
    "<faultstring>it is down</faultstring></soap:Fault></soap:Body></soap:Envelope>"
)
OGC = (
    '<ows:ExceptionReport><ows:Exception exceptionCode="InvalidParameterValue">'
    "<ows:ExceptionText>bbox</ows:ExceptionText></ows:Exception></ows:ExceptionReport>"
)
PRICE = "<soap:Envelope><soap:Body><Price>12</Price></soap:Body></soap:Envelope>"


def extract(reply: str, path: str = "$.content", **keys: bool) -> object:
    methods = [{"method": "direct", "field_mappings": {"a": path}}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods, **keys}}})
    return Catalog.load({"e.yaml": text}, {}).extractor("e").extract(reply).values["a"]


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (S3, AgentCredentialsError, "AccessDenied: no"),
        (QUERY, AgentThrottledError, "Throttling: Rate exceeded"),
        (SOAP.format("Server"), AgentUnavailableError, "soap:Server: it is down"),
        (SOAP.format("Client"), AgentRejectedError, "soap:Client: it is down"),
        (
            OGC,
            AgentRejectedError,
            "InvalidParameterValue: bbox",
        ),
    ],
)
def test_a_document_that_is_an_error_is_no_answer(reply: str, error: type[RowfleetError], words: str) -> None:
    with pytest.raises(error, match=words):
        extract(reply)
    assert extract(reply, accept_errors=True) == reply


@pytest.mark.parametrize(
    "reply",
    [PRICE, "<price>12</price>", "<errors><error>a typing mistake</error></errors>", "an <Error> is a tag"],
)
def test_other_documents_are_answers(reply: str) -> None:
    assert extract(reply) == reply


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ('<?xml version="1.0"?><response status="error"><msg>bad</msg></response>', "bad"),
        ('<rsp stat="fail"><err code="100" msg="Invalid API Key"/></rsp>', "100: Invalid API Key"),
    ],
)
def test_the_first_element_says_that_it_is_an_error(reply: str, words: str) -> None:
    with pytest.raises(RowfleetError, match=words):
        extract(reply)
    assert extract('<rsp stat="ok"><photo status="fail"/></rsp>')
