"""The shapes that replies come in. `service.mapping.replies.normalise` puts them together.

    wrappers    Lambda, Step Functions: an envelope around the reply, often as a JSON string
    items       a reply -> its messages, whichever key they stand under
    messages    one item -> a message of the transcript; asks these for what only they know:
    anthropic   blocks with a `type`: tool_use, tool_result and those of the server's own tools
    converse    blocks without one: toolUse, toolResult
    openai      tool_calls of a message; the items of the Responses API
    langchain   serialised messages; `type: ai` for a role
    usage       how many tokens, as each provider counts them
    text        the text of a content, and JSON within text

To add a shape: say in `items` where its messages stand, and add what reads its blocks or calls.

Nothing here raises, whatever the JSON: what does not have the type it should have is not there.
"""
