"""The five kinds of tokens in the replies of each provider."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mapping.replies.normalise import normalise
from service.mapping.replies.transcript import Usage
from service.mapping.replies.usage import stated_usage, total_usage

PARTS = {"cached_tokens": 600}


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        pytest.param(
            {"prompt_tokens": 1000, "completion_tokens": 200, "prompt_tokens_details": PARTS,
             "completion_tokens_details": {"reasoning_tokens": 150}},
            Usage(1000, 200, 600, 0, 150), id="OpenAI",
        ),
        pytest.param(
            {"input_tokens": 1000, "output_tokens": 200, "input_tokens_details": PARTS,
             "output_tokens_details": {"reasoning_tokens": 150}},
            Usage(1000, 200, 600, 0, 150), id="OpenAI's Responses",
        ),
        pytest.param(
            {"input_tokens": 100, "output_tokens": 200, "cache_read_input_tokens": 600,
             "cache_creation_input_tokens": 300},
            Usage(1000, 200, 600, 300), id="Anthropic",
        ),
        pytest.param(
            {"inputTokens": 100, "outputTokens": 200, "cacheReadInputTokens": 600,
             "cacheWriteInputTokens": 300},
            Usage(1000, 200, 600, 300), id="Converse",
        ),
        pytest.param(
            {"promptTokenCount": 1000, "candidatesTokenCount": 50, "thoughtsTokenCount": 150,
             "cachedContentTokenCount": 600},
            Usage(1000, 200, 600, 0, 150), id="Gemini",
        ),
        pytest.param(
            {"prompt_token_count": 1000, "candidates_token_count": 50, "thoughts_token_count": 150,
             "cached_content_token_count": 600},
            Usage(1000, 200, 600, 0, 150), id="Gemini's SDK",
        ),
        pytest.param(
            {"input_tokens": 1000, "output_tokens": 200, "output_token_details": {"reasoning": 150},
             "input_token_details": {"cache_read": 600, "cache_creation": 300}},
            Usage(1000, 200, 600, 300, 150), id="LangChain",
        ),
        pytest.param(
            {"inputTokens": {"total": 1000, "cacheRead": 600, "cacheWrite": 300},
             "outputTokens": {"total": 200, "reasoning": 150}},
            Usage(1000, 200, 600, 300, 150), id="Vercel 6",
        ),
        pytest.param(
            {"inputTokens": 1000, "outputTokens": 200, "cachedInputTokens": 600, "reasoningTokens": 150},
            Usage(1000, 200, 600, 0, 150), id="Vercel 5",
        ),
        pytest.param(
            {"input_tokens": 1000, "output_tokens": 200, "cache_read_tokens": 600, "cache_write_tokens": 300,
             "details": {"reasoning_tokens": 150}},
            Usage(1000, 200, 600, 300, 150), id="pydantic-ai",
        ),
        pytest.param(
            {"prompt_tokens": 1000, "completion_tokens": 200, "prompt_cache_hit_tokens": 600},
            Usage(1000, 200, 600), id="DeepSeek",
        ),
        pytest.param(
            {"prompt_tokens": 1000, "completion_tokens": 200,
             "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 300}},
            Usage(1000, 200, 600, 300), id="OpenRouter",
        ),
    ],
)  # fmt: skip
def test_kinds(usage, found):
    """Parts of the two totals are read where the provider has them."""
    assert stated_usage({"usage": usage}) == found


@pytest.mark.parametrize("wrong", [None, "6", -1, 1.5, True, [600], {"x": 1}])
def test_counts_that_are_none(wrong):
    """They count as no part; the totals are kept."""
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": wrong}}
    assert stated_usage({"usage": usage}) == Usage(10, 2)
    assert stated_usage({"usage": usage | {"prompt_tokens_details": wrong}}) == Usage(10, 2)


COUNT = st.integers(0, 2 * 10**12)


@given(COUNT, COUNT, COUNT, COUNT, COUNT)
def test_no_part_is_larger_than_the_whole(prompt, completion, cached, written, reasoning):
    """Whatever a reply states; and its transcript gives the same counts again."""
    usage = {
        "prompt_tokens": prompt, "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }  # fmt: skip
    transcript = normalise({"choices": [{"message": {"role": "assistant", "content": "x"}}], "usage": usage})
    found = transcript.usage
    assert found.cached_input + found.cache_write <= found.input_tokens
    assert found.reasoning <= found.output_tokens
    assert normalise(transcript.as_json()).usage == found


def test_a_sum_keeps_the_kinds():
    """The parts of several messages are added up as their totals are."""
    assert total_usage([Usage(5, 4, 3, 2, 1), None, Usage(5, 4, 3, 2, 1)]) == Usage(10, 8, 6, 4, 2)
