"""Runs of many rows whose answers change late, from a CSV to Parquet."""
