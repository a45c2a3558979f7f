"""What pipedeco costs, measured beside its peers in one run: `python -m benchmarks`.

rows.py      the table's rows: what is measured, by whom, and the goal
measure.py   one measurement in a process of its own
table.py     what is printed
steps.py     the functions that every system runs
systems/     pipedeco and its peers behind one small interface
cold/        scripts that are run whole
"""
