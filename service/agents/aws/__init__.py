"""Agents that AWS runs: Lambda, Step Functions, Bedrock, AgentCore."""
