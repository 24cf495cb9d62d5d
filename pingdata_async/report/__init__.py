"""A run as one HTML file that people can look at, and pass on.

charts      What is drawn, as Vega-Lite specifications, each with its table
collect     One pass over a run: what its report tells
page        The HTML file: everything is in it, and it asks for nothing
statistics  Counts that stay small, however many rows there are
"""
