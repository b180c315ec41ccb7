"""What the JSON or the text of an error states: its names, its status, its pause, and that it is final."""
