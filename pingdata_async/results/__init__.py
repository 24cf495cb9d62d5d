"""A job's output to the outcome of each row.

offset_index  The fast path: where each row's answer stands in an output
outcomes      The outcome of a row: ok, partial or failed, and why; counts of outcomes
validation    A job's output to the outcome of each row: the slow path, merging, repeated ids
"""
