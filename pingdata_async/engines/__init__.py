"""Rows behind a distributed engine (Spark, Dask, Ray): batches of Arrow in, answers beside them.

batches   enhance_batches(): what a task does with its partition
spec      BatchSpec: all that a task is told, settled once on the driver
"""
