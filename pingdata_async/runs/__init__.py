"""A run from file to file: plan, execute, export."""
