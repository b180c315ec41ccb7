"""From a transcript to output fields: methods, guards, schemas, and why a value is what it is."""
