"""`make mutants FOLDER=...`: remove limits, shields and clean-up one at a time, and name those that no test detects.

General tools for mutation testing change operators and constants. What keeps a lab alive is elsewhere: a deadline, a
shield, a `finally`, a bound. So this tool changes those, and nothing else.
"""
