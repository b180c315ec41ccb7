"""Reply shapes: any provider's reply -> one transcript.

    plain        objects of an agent's own, which no reader needs to look at
    wrappers     Lambda, Step Functions: the document around a reply, often as a JSON string
    items        a reply -> its messages, under whichever key they are
    messages     one item -> a message of the transcript
    providers    the parts that are a provider's own
    linking      a result -> the name of its tool, by the call that it answers
    usage        token counts, as each provider reports them
    objections   signs in a reply that it is no answer: errors, refusals, finish reasons
    text         the text of a content, and JSON within text
    transcript   the common form: messages, tool calls, tool results, usage
    normalise    all of this together: `normalise(reply)`, and ReplyView with the root for expressions

A new provider's reply shape: `items` gets the key that holds its messages, and a new module in `providers`
reads its blocks or calls, called from `messages`.

Nothing here raises, whatever the JSON is. A member of the wrong type counts as absent.
"""
