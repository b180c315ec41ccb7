"""Remap: a round in which the kept replies of a batch are mapped anew, and no agent is called.

remap        one request: its mapping is checked, the rows are selected and frozen, and the round opens
comparison   the differences that a mapping makes; pure
remapper     the outcome that a kept reply gives by a mapping; pure
sent_parts   the parts of a mapping that say what is sent; pure
work         the work of the round, done by the fleet
"""
