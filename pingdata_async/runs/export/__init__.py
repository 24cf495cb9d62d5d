"""Phase three: plan, journal and spool become an output.

export     Phase three: plan, journal and spool become an output
in_order   Chunks in input order, for an export that goes on beside the run
jsonl      The JSONL output, written while the run is under way
output     Output files: their form, and how they get their names
ownership  Which output files the run wrote itself, and may replace
results    Spool and journal to the outcome of each row, duplicates included
two_pass   Exports beside the input's rows: flat tables, and JSONL with the input's columns
"""
