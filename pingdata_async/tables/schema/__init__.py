"""Types of columns, found over all rows.

arrow         Columns and values to Arrow and back; needs pyarrow
inference     Nested JSON to flat columns, inferred over all rows
input_rows    Input rows to columns of a flat table
output_table  The output as a flat table: the input's columns, the status, the answers
types         Types of columns, and how they are promoted
"""
