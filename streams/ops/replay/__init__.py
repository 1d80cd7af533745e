"""`towpath replay`: the code of today on what came in then, compared with what was really emitted.

The one rule: a replay calls nobody and changes nothing, unless it is told to publish.
"""
