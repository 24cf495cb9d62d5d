"""A row to a location, locations to chunks.

checks          Refuses what a program cannot mean by locations
chunk           Chunks of locations: how they are split, and rows that are sent again
chunk_builder   Rows to chunks, bounded in number and bytes
coordinates     Coordinates to degrees, however people write them
countries       Countries and US states, however they are written
coverage        Which locations a data source surely cannot answer
fields          The fields of a location, and what reads the value of each
missing_values  Words such as "N/A" that say that nothing is known
normalize       Locations to the fields that are sent, column by column; keys of equal locations
numbers         Numbers as people write them, with units and words, to what is sent
postal_codes    Leading zeros of US postal codes that a spreadsheet took
"""
