"""The ports on real services (`aws`) and in memory (`memory`); one contract suite holds both."""
