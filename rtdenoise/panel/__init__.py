"""The panel: a page in the user's browser that shows a running filter and steers it.

``access`` decides who is let in, ``server`` serves, ``engine`` runs the session as ``preferences`` have it, ``offer``
lists what else there is, ``history`` keeps the last seconds of sound; ``page`` holds what the browser gets, as it is.
"""
