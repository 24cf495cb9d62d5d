"""Tables in, tables out.

rows      Input rows in their original form, and which input they are from
formats   The formats of outputs: their names, endings, limits and packages
xlsx      XLSX: values to cells as XML, and a workbook's archive, parts and styles
readers/  Any input to batches of rows
mapping/  Which column holds which field
schema/   Columns of flat tables, and their types
writers/  A flat table to any output
"""
