"""Agents behind AWS: Lambda, Step Functions, Bedrock, AgentCore."""
