"""Any input to batches of rows.

arrow            Arrow tables and data frames to batches
base             What all readers share: files and pipes as hashed streams, and rows as batches
csv              Delimited text to batches of rows, as a stream
data_rows        Which rows of a table are data: no totals, footnotes or second tables
dialect          The dialect of a delimited text: its delimiter, and quotes behind blanks
excel            Workbooks of Excel and OpenDocument to batches of rows
jsonl            JSONL and Python objects to batches of rows, as a stream
look_alikes      Files that look like tables and are none: what they are, and what to do
lost_cells       Cells of a workbook that have no value to send, and merged cells
open             Opens an input: finds out its form, and chooses the reader
parquet          Parquet files to batches of rows, as a stream
text_encoding    The encoding of a text: given by name, or detected
workbook_limits  Bounds of a workbook, checked before it is opened whole
"""
