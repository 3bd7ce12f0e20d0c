"""A fleet in AWS: one monitoring account, its workload accounts, and the stacks they are made of.

    file        fleet.yaml → model.Fleet, with everything that is wrong and where (declarations, services/, checks)
    model       what a fleet is, resolved
    templates/  its CloudFormation templates
    order       which stacks it consists of, and in which order
    sessions    the doors to its accounts
    lists       how AWS lists what is in them
    preflight/  what has to be there before anything is touched
    plan        what a deployment would change; changes nothing
    deploy, destroy, stacksets, units    the way there and back (run: accounts side by side; stacks, changes, watch: one stack)
    status      what there is, drift included
    verify/     the chain from task to workspace, walked from outside
    proof/      that nothing is left
    images/     the images of collector and application
    render      all of it as files, for a pipeline of one's own

Plain synchronous code with threads. CloudFormation holds the state; nothing is kept beside it.
"""
