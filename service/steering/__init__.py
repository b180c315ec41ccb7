"""Operations on a batch: pause, resume, cancel, set, finish, redrive.

operate      one request: decided, written in one transaction with its log, and followed up
answers      a request that travels as a message, and its answer
decisions    what each operation makes of a batch; pure
redrive      the next round of a batch: its rows are selected and frozen, then it opens
rounds       what a round makes of a batch; pure
selection    the pass that finds the rows of a round
filters      the rows that a redrive asks for; pure
failures     tolerated failures: a batch is judged by its counters, and held or cancelled
cancellation, expiry    ends of batches that are cancelled, or held for too long
work         long work that an operation leaves to the fleet
"""
