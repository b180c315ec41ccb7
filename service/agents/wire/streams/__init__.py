"""Streams of each provider, joined to the reply that the provider sends without streaming.

A joined reply keeps its finish reason: `service.mapping.replies` judges complete replies, streamed or not.
The error that a stream states is raised here, and so is the end of a stream before it was complete: half an
answer must not become a row's result.
"""
