"""HTTP server parts: heads, bodies, threads, sockets and proxies, with a limit on each.

They exist because granian's WSGI interface has no such limits. They know nothing of one-time passcodes.
"""
