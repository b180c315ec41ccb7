"""Texts of errors that are final, and those of failures that a later call may not meet."""

import pytest

from service.domain.stated.rejections import is_final_text


@pytest.mark.parametrize(
    "text",
    [
        'Cannot query field "nam" on type "Hero". Did you mean "name"?',
        'Field "getTask" argument "id" of type "ID!" is required but not provided.',
        "Syntax Error: Expected Name, found <EOF>.",
        'Variable "$id" got invalid value "abc"; Expected type Int.',
        'Variable "$id" of required type "ID!" was not provided.',
        "Validation error of type FieldUndefined: Field 'x' in type 'Query' is undefined @ 'x'",
        "Field 'foo' doesn't exist on type 'Query'",
        "field \"foo\" not found in type: 'query_root'",
        'Unknown argument "limt" on field "Query.users".',
        'Field "me" of type "User" must have a selection of subfields.',
        "Int cannot represent non-integer value: 1.5",
        'Value "RED" does not exist in "Colour" enum.',
        "PersistedQueryNotFound",
        "Task not found",
        "account With Id = 1 Does Not Exist",
        'Serving signature name: "x" not found in signature def',
        "Invalid or non-existent 3 word address",
        "Invalid API call.",
        "Unable to geocode",
        "Google hasn't returned any results for this query.",
        "the max length of current question is 2000",
        "The prompt is too long",
        "Required fields are missing: [Name]",
        "field required",
    ],
)
def test_words_about_the_request_are_final(text: str) -> None:
    assert is_final_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Unexpected error.",
        "Something went wrong while executing your query.",
        "the request took too long",
        "upstream host not found",
        "getaddrinfo ENOTFOUND db.internal",
        "no such host",
        "route not found for worker 3",
        "Invalid response from the upstream server",
        "invalid JSON in the model's answer",
        "connection reset",
        "the leader does not exist yet in this cluster",
        "lock not found",
    ],
)
def test_words_about_a_server_are_not(text: str) -> None:
    assert not is_final_text(text)
