"""How calls come in: heads, bodies, threads and sockets, with bounds on each. Knows nothing of passcodes."""
