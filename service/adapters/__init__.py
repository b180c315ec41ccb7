"""The ports on AWS (`aws`) and in memory (`memory`). tests/contract holds both to the same behaviour."""
