"""`towpath reconcile`: proof from receipts and topics that nothing was lost or doubled, and the name of whatever was.

The one rule: it reads, on one cut, and joins no group. What cannot be known is said to be so and never counted as right.
"""
