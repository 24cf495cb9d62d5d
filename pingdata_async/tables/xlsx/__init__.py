"""What reading and writing workbooks share.

cells    Values to cells of a sheet, as XML, and the names of cells
package  A workbook as a package: its archive, its parts and its styles
"""
