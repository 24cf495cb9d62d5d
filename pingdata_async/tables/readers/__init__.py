"""Any input to batches of rows.

open           Opens an input: detects its form, and chooses the reader
base           What all readers share: files and pipes as hashed streams, and input rows as batches

csv            Delimited text, and its dialect
quotes         Cells of delimited text that are quoted behind a blank
jsonl          JSONL and Python objects
arrow          Parquet files, with the sizes of their pages, and data frames
excel          Workbooks of Excel and OpenDocument

text_encoding  The encoding of a text: given by name, or detected
table_rows     Which row of a table holds the headers, and which rows are data
workbook_scan  One pass over a workbook's XML: its limits, and what its values do not say
xls_scan       The limits of an .xls, and how it holds its records
lost_cells     Cells of a workbook without a value that can be sent, and merged cells
"""
