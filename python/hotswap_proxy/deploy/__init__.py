"""Progressive deployments: from one version to another in phases, judged on live traffic.

What a deployment is lies in its record (``record``); what may become of it in one table (``transitions``).
The record in the store is the only truth: the data plane of every node follows it (``fleet``), and the
engine is a tick that reads the record and what was measured, works out the next record (``advance``, a pure
function) and writes it by compare-and-swap. So it can be killed at any line, and another process goes on.
"""
