"""Objections: signs in a reply, by which it says itself that it is no answer, or only a part of one.

    finder           `find_objections`: all of a reply, the most important first
    objection        one of them: its error, and the key that states it
    stated_errors    `error`, `success: false`
    bare_errors      replies that are a status or code, a message and nothing else
    failed_calls     functions, tools, tasks and runs that failed: Lambda, MCP, A2A, Claude Code
    failed_envelopes work that failed or was paused, around the values that a mapping reads
    xml_errors       errors in XML: of AWS, of SOAP
    classification   the class of both of these
    unfinished       answers that are not there yet: queued, in progress
    without_values   the same and errors in looser forms, where a mapping has found nothing
    refusals         refusals of a model, and prompts that were blocked
    finish_reasons   the reason why a model stopped: a limit, a filter, a failure
    read_places      where such a reason stands: beside the texts that a mapping reads

Only keys that a provider or a protocol documents count, at the places where they stand. Free text and objects
that a reply is about are never judged: an answer about an error is an answer.
"""
