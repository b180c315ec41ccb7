"""What an agent is opened with: its options with references resolved, and limits of the process."""
