"""A flat table to any output.

base           What all writers of flat tables share, and what opens one
csv            Flat tables to CSV and TSV
excel          Flat tables to new XLSX workbooks of one sheet
geojson        GeoJSON, and the point of a row
jsonl          JSON lines of outcomes and of failures
parquet        Flat tables to Parquet and GeoParquet; needs pyarrow
sheet_editing  A sheet with more columns behind its own; everything else stays byte for byte
sheet_rows     The rows of a sheet, found in its bytes
workbook       The input workbook with the answers as new columns of its sheet
"""
