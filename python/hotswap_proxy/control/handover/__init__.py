"""One control process hands its node over to the next one while both serve: how a node is upgraded.

    predecessor                                   successor
    starts it, gives it lock, listening sockets,
    healths of backends                       →   loads the configuration, prepares workers that do not accept
                                              ←   prepared
    lets go of its duties; newest healths     →   takeOver: catches up with the store, its workers accept
                                              ←   serving
    its workers take no new connections; all
    that are open are told to close           →   retired: takes the duties (store, admin API, checks …)
                                              ←   inCharge
    drains, ends

Until ``inCharge`` the predecessor can take everything back. If it dies before, the successor, once prepared,
goes on alone; a service manager that watches starts the next process itself, so there the successor ends. The
lock of the data directory is one open file that both hold, so there is no moment without it.

The words are JSON frames (``control.channel``); a successor of another version must be able to read them, so
members are added and never changed.
"""
