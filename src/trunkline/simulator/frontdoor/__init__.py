"""The front door of the simulated AWS.

signature.py     Signature Version 4, verified: a pure function
calls.py         a request taken apart: service, operation, parameters
server.py        FrontDoor: authenticate, fail on purpose, authorise, answer or pass on
sessions.py      access keys of administrators and sessions
sts.py           the Security Token Service
authority.py     may they: policies of the emulator's roles, weighed by `aws.iam`
roles.py         roles as the emulator holds them, cached by the version of IAM's state
simulation.py    what IAM would say, asked for by its own API
quotas.py        Service Quotas: AWS's defaults
permissions.py   which action on which resource an operation needs
errors.py        refusals in AWS's words and each protocol's shape
faults.py        what goes wrong on purpose
backend.py       the emulator's socket
private.py       the sockets for the workspace gateway and for the emulator
events.py        what the emulator tells
"""
