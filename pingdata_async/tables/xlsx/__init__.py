"""What reading and writing workbooks share.

cells    Cells of a sheet as XML: values to cells, and what cells say beside their values
package  A workbook as a package: its archive, its parts and its styles
"""
