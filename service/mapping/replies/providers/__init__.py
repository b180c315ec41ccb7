"""Reply shapes of single providers and frameworks: their messages, calls, results and token counts.

anthropic    blocks with a `type`: tool_use, tool_result and those of Anthropic's server tools
converse     blocks without one: toolUse, toolResult; also Strands agents
openai       tool_calls of a message; the items of the Responses API
gemini       contents with `parts`: functionCall, functionResponse; events of Google's ADK
langchain    serialised messages; `type: ai` instead of a role
vercel       messages and steps of the AI SDK: tool-call, tool-result
pydantic_ai  requests and responses with parts that have a `part_kind`
cohere       chat histories of Cohere's first version, and tool results with documents
ollama       the reply of `/api/generate`
autogen      messages and events with a `source`
haystack     messages with blocks tool_call and tool_call_result
a2a          tasks, messages and artifacts of the Agent2Agent protocol
mcp          results of tools by the Model Context Protocol
"""
