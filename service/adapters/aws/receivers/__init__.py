"""Receivers of events in AWS, and Step Functions, whose tasks wait for batches."""
