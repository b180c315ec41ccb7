"""The whole service in one process on a laptop: a durable store in a folder, queues in memory.

home       the folder of the store, and the process that writes to it
backend    the store and the queues as ports
tuning     settings of one process that serves one batch
pipeline   all roles in this process
source     the file of a run: read once for its digest and an estimate of its rows
commands   a run as a command asks for it, and the keys by which the same command is known again
run_book   which runs the store has, and which files they have written
going_on   a batch that an earlier process has left is gone on with
results    result files written to their place, or to stdout
inbox      operations that other processes ask for
serving    one batch served until it ends, is held, or the user stops it
"""
