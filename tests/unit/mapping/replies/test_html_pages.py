"""HTML pages in place of a reply."""

import pytest

from service.mapping.replies.html_pages import is_page, page_words


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<!DOCTYPE html><title>Sign\n in &amp; go</title><body>x", "Sign in & go"),
        (
            "<!-- a --> <!-- b --><html><head><style>p{}</style></head><h1>502</h1> Bad Gateway",
            "502 Bad Gateway",
        ),
        ("\ufeff <?xml version='1.0'?><HTML><BODY>ok</BODY></HTML>", "ok"),
        ("<html><title> </title><script>if (a < b) {}</script><p>Wait</p>", "Wait"),
        ("<html>", ""),
    ],
)
def test_a_page_is_shown_by_its_title_or_text(page: str, words: str) -> None:
    """Without markup, scripts and styles."""
    assert is_page(page)
    assert page_words(page) == words


@pytest.mark.parametrize(
    "text", ["", "plain", "<answer>html</answer>", "use <html> tags", '{"a": "<html>"}', "<!---->" * 10_000]
)
def test_other_texts_are_no_pages(text: str) -> None:
    """Comments alone are none; they are skipped in linear time."""
    assert not is_page(text)
    assert page_words(text) == ""
