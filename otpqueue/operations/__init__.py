"""What can be done, one use case a file, in the order of a request's life.

request -> send -> status -> verify -> cancel; sweep and expire end what is left; provision and keys come
before them all.
Parts (the provider, how to wake a worker) are handed in; nothing here knows HTTP servers or Celery.
"""
