"""Senders of what the outbox holds: events to their targets, answers to waiting tasks."""
