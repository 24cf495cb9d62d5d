"""Concurrency, rate, polling, retry, circuit breaker, budget: decisions, no I/O.

adaptive_limit   How many jobs are worth having in flight: AIMD, with an eye on the API's queue
budget           How much may be spent, and whether the next chunk still fits
circuit_breaker  CircuitBreaker: whether rows or the API are at fault, and when a run stops
concurrency      ConcurrencyLimiter: how many jobs a client has in flight, shared by its runs
job_timing       How long jobs take, and how far one is
polling          When to poll a job next
rate_limiter     The rate of all requests of a client, learnt from the API's refusals
retry            Which errors are retried, when, and when to give up
"""
