"""A flat table to any output.

base           What all writers of flat tables share, and what opens one
csv            CSV and TSV
excel          New XLSX workbooks of one sheet, and the input workbook with the answers
json           JSON lines of outcomes and of failures; GeoJSON, and the point of a row
parquet        Parquet and GeoParquet; needs pyarrow
sheet_editing  A sheet with more columns behind its own; everything else stays byte for byte
sheet_rows     The rows of a sheet, found in its bytes
"""
