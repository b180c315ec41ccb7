"""What may stand in a mapping file: YAML with line numbers, known keys, references, problems."""
