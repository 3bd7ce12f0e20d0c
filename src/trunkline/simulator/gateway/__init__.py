"""What is Amazon Managed Service for Prometheus as far as a writer or a reader can tell.

A process of its own (`python -m trunkline.simulator.gateway`) in front of one real Prometheus per workspace.

    process.py         Gateway: starts and stops that process, for the world and for tests
    client.py          what others ask of it over `<state>/gateway.sock`
    settings.py        workspaces, their limits, faults: everything that can be set
    server.py          the data plane: what a request passes on its way to Prometheus
    identity.py        who is asking, and may they: signatures here, sessions and policies asked of the front door
    admission.py       which samples a workspace takes, and the words for those it does not
    series.py          the last sample of every series, and token buckets
    write_request.py   a decoder of remote write 1.0, independent of the writer's encoder
    faults.py          what can be made to go wrong
    operations.py      the control socket's side of client.py
    control.py         the `aps` control API, mounted by the front door
"""
