"""When a call to a target may begin: circuit breaker, AIMD concurrency limit, weighted fair queue."""
