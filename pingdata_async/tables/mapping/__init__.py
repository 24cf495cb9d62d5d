"""Which column holds which field.

columns        Maps columns to fields, by their headers or as given by the user
headers        The meaning of a header, and how headers are shown in messages
synonyms       The words that headers use for each field
candidates     Which fields a column may hold, by its header and those beside it
street_lines   Street lines joined from columns, in the order of the country
house_numbers  Checks over all rows that no house number is lost
"""
