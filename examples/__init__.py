"""Agents, tables and run definitions to see rowfleet work on; README.md says where the data comes from."""
