"""Operations on a batch: pause, resume, cancel, set, finish, redrive.

operate      one request: decided, written in one transaction with its log, and followed up
decisions    what each operation makes of a batch; pure
work         long work that an operation leaves to the fleet
"""
