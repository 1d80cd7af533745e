"""How a database comes to have the tables that it should: one folder of revisions for each store.

The one rule: a released revision is never changed; what is to be different is a new one.
"""
