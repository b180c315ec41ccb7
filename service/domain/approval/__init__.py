"""The approval of a sample: its options, and the conditions that approve it by themselves."""
