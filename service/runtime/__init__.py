"""What every role runs on: the consumer loop, leases, sending, back-off, time-outs, logs, metrics."""
