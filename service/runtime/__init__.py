"""Building blocks of every role: consumer loop, leases, sending, back-off, time-outs, logs, metrics."""
