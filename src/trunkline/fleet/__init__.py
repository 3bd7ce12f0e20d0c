"""A fleet in AWS: one monitoring account, its workload accounts, and the stacks they are made of.

`model` describes a fleet, `templates` writes its CloudFormation templates, `stacks` brings one stack to life
or ends it, `deploy` does that for a whole fleet in the right order. Plain synchronous code with threads.
"""
