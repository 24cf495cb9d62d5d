"""Columns of flat tables, and their types.

types         Columns and their types: inferred, promoted, named and selected
inference     Nested JSON to flat columns, inferred from all rows
output_table  The output as a flat table: the input's columns, the status, the answers
arrow         Columns and values to Arrow and back; needs pyarrow
"""
