"""Lua scripts of the hot path, called with one connection's own methods.

redis-py's client costs ten times as many function calls around a script as sending and reading take.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import Any

import hiredis
from redis import Connection, Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError


class RedisScript:
    """A Lua script in Redis. Thread-safe.

    It keeps the connections that it takes from the client's pool, one for each concurrent call. The client
    closes them.
    """

    def __init__(self, redis: Redis, source: str) -> None:
        """Run `source` with the connections of `redis`, which must not retry."""
        self._script = redis.register_script(source)
        self._head = ("EVALSHA", self._script.sha)
        self._pool = redis.connection_pool
        self._idle: deque[Connection] = deque()
        self._pid = os.getpid()

    def __call__(self, *, keys: Iterable[str], args: Iterable[str | int] = ()) -> Any:
        """Run the script and return its answer: texts as bytes. One round trip, once Redis has the script.

        Raises RedisError; the script may have run then, unless it is a ResponseError.
        """
        keys, args = tuple(keys), tuple(args)
        words: Any = (*self._head, len(keys), *keys, *args)
        command = hiredis.pack_command(words)
        connection = self._take_connection()
        try:
            connection.send_packed_command((command,), check_health=False)  # type: ignore[no-untyped-call]
            answer = connection.read_response()
        except NoScriptError:
            self._idle.append(connection)
            return self._script(keys=keys, args=args)
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            # What was sent may still be answered.
            self._discard(connection)
            raise
        self._idle.append(connection)
        return answer

    def _take_connection(self) -> Connection:
        if self._pid != os.getpid():  # a forked child must not use its parent's connections
            self._idle, self._pid = deque(), os.getpid()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._pool.get_connection()
            if _is_usable(connection):
                return connection
            self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        connection.disconnect()  # type: ignore[no-untyped-call]
        self._pool.release(connection)


def _is_usable(connection: Connection) -> bool:
    # Between two calls Redis sends nothing, unless it closes the connection.
    try:
        return not connection.can_read()
    except (RedisError, OSError):
        return False
