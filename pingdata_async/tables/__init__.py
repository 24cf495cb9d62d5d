"""Tables in, tables out.

mapping/  Which column is which field
readers/  Any input to batches of rows
schema/   Types of columns, found over all rows
writers/  A flat table to any output
xlsx/     What reading and writing workbooks share
formats   The forms of tables that can be written, by name and by package
rows      Rows of an input as they came: text, cells, JSON, Arrow
"""
