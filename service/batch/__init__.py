"""Operations on a batch that several roles share: read the source, commit outcomes, check completion.

Steps 5 and 6 of docs/protocol.md are here, in `group_commit` and `completion`.
"""
