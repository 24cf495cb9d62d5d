"""Chunks through the API, in one event loop; knows no disk, no table and no screen.

flow_control/  Concurrency, rate, polling, retry, circuit breaker, budget: decisions, no I/O
calls          Calls that return a list; those of few locations share jobs
shared_runs    Gathers the rows of concurrent calls into chunks, and has them sent
context        What a run works with: the API, the store, the limits; ChunkStore, MemoryStore
decisions      What follows for a chunk when its submission or job went wrong (pure)
engine         Engine: the loop that submits, polls and fetches every chunk, and moves it along
requests       One request about a chunk: when it is sent, and its outcome
scheduler      The queues of a run: which chunk is next, what is open, and stopping
stream         An iterable as chunks, read in one task; results as an async iterator
submission     Submitting a chunk: budget, size, intent, request, and what its answer means
task           A chunk on its way through the API, and the outcomes of a request about it
"""
