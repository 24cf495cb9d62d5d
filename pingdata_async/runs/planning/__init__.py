"""Phase one: the input becomes a plan, without duplicates.

dedupe       Duplicate rows, found in flat memory by hash partitions
plan_writer  The input, read once, becomes `plan` and `input` in the run directory
planner      A plan in the run directory, made now or found there
"""
