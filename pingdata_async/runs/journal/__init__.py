"""`journal.sqlite3`: what has become of each chunk.

journal      `journal.sqlite3`: what has become of each chunk; group commit
reader       The journal, read: for status, export and summary
records      States of a chunk and their legal transitions; rows of the journal's tables
schema       The SQLite file: created, opened, checked
transitions  Each transition of a chunk, as statements on the journal's tables
"""
