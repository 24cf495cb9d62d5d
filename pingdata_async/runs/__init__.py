"""Durable runs: plan, execute, export.

directory/  What lies in a run directory
export/     Phase three: plan, journal and spool become an output
journal/    `journal.sqlite3`: what has become of each chunk
planning/   Phase one: the input becomes a plan, without duplicates
comparison  What differs between two answers to the same location
diff        Which answers changed between two runs, by location and field
answer_index  What an earlier run has answered, found by location
forecast    What a run would send, cost and take
preflight   What the API is asked before anything is sent: limits and data sources
reconcile   A run's charges beside the account's usage
resume      Unfinished chunks as tasks, and rows that `retry` reopens
reuse       Answers of earlier runs serve a new one
run         A run from file to file, in its three phases
spending    What a run has charged, what it has still to send, and what it may spend
timeline    How a run goes over time, in a few hundred moments
status      How far a run is, read from its directory: also while it runs, and after a crash
"""
