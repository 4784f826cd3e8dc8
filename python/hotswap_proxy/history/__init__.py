"""What happened: counts of each minute kept for a day, and what of it was out of the ordinary.

``recorder`` writes what this node has counted, minute by minute; ``windows`` reads it back, all nodes'. Of
the nodes of a fleet one compares each minute with the hours before (``watch``): ``baseline`` is the
statistics, ``detector`` decides when an anomaly begins and ends. Both are pure.
"""
