"""The road of one request, from a client's bytes to the response: see docs/life-of-a-request.md.

Nothing is re-exported here: the composition root names the module of each part that it joins.
"""
