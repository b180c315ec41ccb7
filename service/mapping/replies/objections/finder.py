"""The search for the objections of a reply."""

from __future__ import annotations

from itertools import chain

from service.domain.model import Json
from service.mapping.replies.items import unwrap_item
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.objections.error_pages import find_error_pages
from service.mapping.replies.objections.finish_reasons import find_finish_reasons
from service.mapping.replies.objections.objection import Objections
from service.mapping.replies.objections.read_places import wrapped_documents
from service.mapping.replies.objections.refusals import find_limits, find_refusals
from service.mapping.replies.objections.stated_errors import find_stated_errors
from service.mapping.replies.objections.unfinished import find_unfinished
from service.mapping.replies.objections.xml_errors import find_xml_errors
from service.mapping.replies.providers.langchain import unwrap_message
from service.mapping.replies.text import str_or_empty


def find_objections(view: ReplyView) -> Objections:
    """All objections, those of outer layers first.

    They are error pages and errors in XML, stated errors, unfinished work, refusals, finish reasons.
    """
    if view.is_plain:
        return
    roots = (view.root, *view.other_roots, *wrapped_documents(view.root))
    texts = [text for root in roots if (text := _only_text(root))]
    for document in view.documents:
        yield from find_error_pages(document)
    for text in texts:
        yield from find_xml_errors(text)
    for document in view.documents:
        yield from find_stated_errors(document, view.transcript.text)
    for document in view.documents:
        yield from find_unfinished(document)
    messages = [unwrap_message(unwrap_item(holder)) for holder in view.answers]
    for text in filter(None, (view.transcript.text, *texts)):
        yield from find_limits(text)
    documents = [*view.documents, *chain.from_iterable(map(wrapped_documents, view.documents))]
    for document in documents:
        yield from find_refusals(document, messages)
    for document in documents:
        yield from find_finish_reasons(document, view.answers, view.transcript.usage.output_tokens)


def _only_text(root: Json) -> str:
    """The text of a reply that is no message: the reply itself, a wrapper's body, or its `output`."""
    if not isinstance(root, dict):
        return ""
    return str_or_empty(root.get("output", root.get("content") if len(root) == 1 else None))
