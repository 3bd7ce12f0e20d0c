"""The demonstration: a fleet in a simulator of its own, watched live and checked at the end.

run.py        from the first process to the last
evidence.py   what the workspace, ECS and the operating system say
refusals.py   writes that must not be taken
checks.py     what must hold of all that
screen.py     what is shown meanwhile
"""
