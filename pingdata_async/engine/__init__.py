"""Chunks through the API, in one event loop; knows no disk, no table and no screen.

flow_control/  Concurrency, rate, polling, retry, circuit breaker, budget: decisions, no I/O
context        What a run works with: the API, the store, the limits, the policy
engine         The loop: submit, poll and fetch every chunk, and what a lost job means
input_task     The one task in which an input is iterated and closed
request_pacer  Paces the requests of one run, and passes on what the answers say of the API
requests       One request about a chunk, and what follows
scheduler      The queues of a run: who is next, what is open, and stopping
store          ChunkStore, which records each step of a chunk; MemoryStore
stream         Results of a run as an async iterator that can be left at any time
submission     Submitting chunks: intent, request, doubt, splitting, the largest job
task           A chunk on its way through the API, and what one request about it came to
task_events    Events about a task, made from what the engine knows
"""
