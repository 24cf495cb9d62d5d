"""Rows behind a distributed engine (Spark, Dask, Ray): batches of Arrow in, answers beside them.

batches     enhance_batches(): what a task does with its partition
frames      What the adapters of engines share: which columns are asked, partitions in order
overview    What a store holds: its progress and charges, and its rows as a file
protocol    The log of a chunk, and what an attempt at it does next (pure)
spec        BatchSpec: all that a task is told, settled once on the driver
store       SharedStore: logs and answers of chunks on shared storage, each object written once
task_store  What a task records of its chunks, and finds of other attempts at them
"""
