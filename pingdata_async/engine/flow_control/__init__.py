"""Concurrency, rate, polling, retries, circuit breaker, budget: decisions, no I/O.

adaptive_limit  AdaptiveLimit: how many jobs in flight the API can take, learnt from its answers
budget          Budget: how much may be spent, and whether the next chunk still fits
concurrency     ConcurrencyLimiter: how many jobs a client has in flight, shared by its runs
job_timing      JobProgress: how far a job is; JobTimes: how long jobs take
polling         PollPlanner: when to poll a job next
rate_limiter    RateLimiter: when each request may leave; pauses after a 429, and learns the rate
retry           RetryPolicy: what is retried, and when; CircuitBreaker: when a run stops
"""
