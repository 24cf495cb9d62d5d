"""Which column is which field.

candidates     Which fields each column may hold, by its header and its neighbours
columns        Which column holds which field: found by its header, or given by the user
headers        A header to its meaning; which row is the header; how headers are shown
house_numbers  House numbers that would be lost, or are none, found over all rows
street_lines   Street lines joined from columns, in the order of their country
synonyms       What headers of statements of values say, by field
"""
