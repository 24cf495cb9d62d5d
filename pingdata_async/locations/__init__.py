"""A row to a location, locations to chunks.

batch           Many locations at once: what `normalize()` makes of each, far cheaper
chunk           Chunks of locations: their rows, how they are split, and rows to be retried
chunk_builder   Rows to chunks, bounded in number and bytes
coordinates     Coordinates to degrees, however people write them
countries       Countries and US states, however they are written
coverage        Which locations a data source surely cannot answer
keys            The key that makes two locations the same
missing_values  Words such as "N/A" that say that nothing is known
normalize       One location to the fields that are sent
numbers         Numbers as people write them, with units and words, to what is sent
postal_codes    Leading zeros of US postal codes that a spreadsheet took
"""
