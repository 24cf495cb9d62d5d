"""Phase one: the input becomes a plan, without duplicates.

planner  Phase one: the input becomes a plan, once
"""
