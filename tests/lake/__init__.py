"""Spark, Dask, Ray and a real S3, with kills; `scripts/test --lake` runs them."""
