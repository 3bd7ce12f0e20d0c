"""ECS tasks as local processes.

    runner.py        services: how many tasks each has, replacing, rolling over, events
    task.py          the life of one task
    container.py     the life of one container: dependencies, health, restarts, stopping
    sandbox.py       our end of a task's process 1, which is `init.py`
    namespaces.py    where tasks live: network namespaces around a hub, or ports of the loopback
    metadata.py      task metadata endpoint v4, with the figures of `stats.py`
    credentials.py   container credentials endpoint
    logs.py          what containers print

A task's processes die with the simulator whatever happens to it: the task's process 1 watches the simulator's
process, kills everything when that ends, and is itself the first process of a PID namespace.
"""
