"""What of a reply and of its error is stored."""

import pytest

from service.domain import errors
from service.domain.errors import AgentRejectedError, AgentUnavailableError, ExtractionError
from service.domain.ports import Reply
from service.worker.reply_keeping import kept_reply, told_error
from tests.unit.laboratory import definition_of

MAPPING = """
target: {{type: agent, name: demo, invoke: http, url: "http://h/"}}
output_mapping: {{extraction_methods: [{{method: direct, field_mappings: {{answer: $.answer}}}}]}}
keep_replies: {keep}
"""
REPLY = Reply({"said": "Acme Limited"}, masks=(("${TENANT}", "Acme Limited"),))


def mapping(keep):
    return definition_of(MAPPING.format(keep=keep)).compile()


@pytest.mark.parametrize(
    ("keep", "of_success", "of_failure"),
    [("all", True, True), ("failed", False, True), ("none", False, False)],
)
def test_the_rows_whose_replies_are_kept(keep, of_success, of_failure):
    """All of them by default. A kept reply is masked."""
    kept = '{"said":"${TENANT}"}'
    found = [kept_reply(REPLY, mapping(keep), is_failed=failed) for failed in (False, True)]
    assert found == [kept if is_kept else "" for is_kept in (of_success, of_failure)]
    assert kept_reply(None, mapping(keep), is_failed=True) == ""
    assert definition_of(MAPPING.replace("keep_replies: {keep}", "").format()).compile().keep_replies == "all"


def test_an_error_that_quotes_a_reply_is_masked():
    """It keeps its class."""
    told = told_error(ExtractionError("the reply is text: 'Acme Limited'"), REPLY, mapping("all"))
    assert (type(told), str(told)) == (ExtractionError, "the reply is text: '${TENANT}'")
    error = ExtractionError("no")
    assert told_error(error, None, mapping("failed")) is error


@pytest.mark.parametrize(
    "kind",
    [
        one
        for one in vars(errors).values()
        if isinstance(one, type)
        and issubclass(one, errors.AgentRetryableError | errors.AgentRejectedError | errors.ExtractionError)
    ],
)
def test_without_kept_replies_an_error_quotes_nothing(kind):
    """Its class says what happened, and its status if it has one."""
    error = kind("http://h/: HTTP 422: canary")
    error.stated_in = ["canary"]
    told = told_error(error, REPLY, mapping("none"))
    assert type(told) is kind
    assert "canary" not in str(told)
    assert str(told).endswith(" (HTTP 422) (keep_replies: none)")
    assert not str(told).startswith(kind.__name__) or kind is errors.AgentRetryableError
    assert told.stated_in is None


def test_what_decides_on_another_attempt_stays():
    """The wait that the agent asked for, and the scope of the failure."""
    error = AgentUnavailableError("canary", retry_after_s=7.0, scope=errors.FailureScope.TARGET)
    told = told_error(error, None, mapping("none"))
    assert (told.retry_after_s, told.scope) == (7.0, errors.FailureScope.TARGET)
    assert str(told) == "the agent could not be reached, or failed (keep_replies: none)"
    assert str(told_error(AgentRejectedError("x"), None, mapping("none"))).startswith("the agent refuses")
