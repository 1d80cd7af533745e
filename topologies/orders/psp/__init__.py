"""A payment provider as a service of its own: somebody else's, as far as the order flow can tell.

The one rule: nothing in here knows the flow, and the flow knows of it what HTTP says.

`python -m topologies.orders.psp --help` says how it is started.
"""
