"""A row to a location, locations to chunks.

chunk          Chunks of locations: how they are split, and rows that are sent again
chunk_builder  Rows to chunks, bounded in number and bytes
coordinates    Coordinates to degrees, however people write them
coverage       Which locations a data source surely cannot answer
fields         The fields of a location, the readers of their values, and what is refused
normalize      Locations to the fields that are sent, column by column; keys of equal locations
numbers        Numbers as people write them, with units and words, to what is sent
postal_codes   Leading zeros of US postal codes that a spreadsheet took
words          Countries, US states, and words such as "N/A" for nothing
"""
