"""Parts whose connections to Postgres the next test takes over.

A new session costs more than most tests: it plans every function anew, and SQLAlchemy compiles every
statement.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

from sqlalchemy import Engine

from otpqueue.store.sessions import TimeLimits
from otpqueue.wiring import Parts

_MOST_IDLE = 6


class IdleEngines:
    """Engines that no parts use, by how they were made, the latest used last."""

    def __init__(self) -> None:
        self._engines: OrderedDict[object, Engine] = OrderedDict()

    def take(self, made_as: object) -> Engine | None:
        """Return an engine that was made so, None if there is none."""
        return self._engines.pop(made_as, None)

    def give(self, made_as: object, engine: Engine) -> None:
        """Keep an engine, unless a test has left one of its connections in use."""
        if engine.pool.checkedout() or made_as in self._engines:  # type: ignore[attr-defined]
            engine.dispose()
            return
        self._engines[made_as] = engine
        if len(self._engines) > _MOST_IDLE:
            self._engines.popitem(last=False)[1].dispose()

    def close(self) -> None:
        """Close all connections."""
        while self._engines:
            self._engines.popitem()[1].dispose()


class PooledParts(Parts):
    """Parts that take over idle engines, one for each of their own, and leave them when they are closed."""

    def __init__(self, *args: Any, idle: IdleEngines, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle = idle

    def make_engine(self, pool_size: int, limits: TimeLimits) -> Engine:
        """Return an engine with listeners of its own."""
        made_as = (self.settings.database_url, self.settings.database_pgbouncer, pool_size, limits)
        engine = self._idle.take(made_as)
        if engine is None:
            engine = super().make_engine(pool_size, limits)
            self._closers.remove(engine.dispose)
        self.close_later(partial(self._idle.give, made_as, engine))
        return engine.execution_options()
