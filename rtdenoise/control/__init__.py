"""Control of a running filter by other programs of the same user, over a private socket.

``messages`` says what is sent, ``sockets`` where sessions listen, ``server`` and ``client`` are the two ends. Only the
standard library is loaded here: a desktop shortcut must not wait for numba.
"""
