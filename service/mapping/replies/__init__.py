"""Reply shapes: any provider's reply -> one transcript.

    wrappers     Lambda, Step Functions: the document around a reply, often as a JSON string
    items        a reply -> its messages, under whichever key they are
    messages     one item -> a message of the transcript; provider-specific parts are read by
      anthropic    blocks with a `type`: tool_use, tool_result and those of Anthropic's server tools
      converse     blocks without one: toolUse, toolResult
      openai       tool_calls of a message; the items of the Responses API
      langchain    serialised messages; `type: ai` instead of a role
    usage        token counts, as each provider reports them
    text         the text of a content, and JSON within text
    transcript   the common form: messages, tool calls, tool results, usage
    normalise    all of this together: `normalise(reply)`, and ReplyView with the root for expressions

A new provider's reply shape: `items` gets the key that holds its messages, and a new module beside
`anthropic` reads its blocks or calls, called from `messages`.

Nothing here raises, whatever the JSON is. A member of the wrong type counts as absent.
"""
