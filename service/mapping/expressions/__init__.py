"""The expression language: JMESPath, `$` and transforms."""
