"""What engines with workers share: a few units ahead of each worker, and lost ones done again."""

import threading
from collections import Counter, deque

from badnet_defense.errors import LostUnitError
from badnet_defense.parallel.serial import Serial

AHEAD = 2
"""Units that are handed out for each worker: one that it does, one that waits for it."""
MOST_LOSSES = 3
"""Workers that a unit may lose before it is given up."""
PATIENCE = 1.0
"""Seconds of waiting for units before it is asked again whether the engine was stopped."""


class WorkerLostError(Exception):
    """A worker ended before its unit: killed, out of memory, or its machine is gone."""


class PooledExecutor(Serial):
    """An engine that hands units out a few at a time; a child class says how.

    It has `put(value)`, which gives a handle, and `drop(handle)`; `submit(function, handles,
    unit)`, which gives a ticket; `first(tickets)`, which waits for at most `PATIENCE` and gives
    those whose units are done; `result(ticket)`, which gives the result or raises
    `WorkerLostError`; and `forget(tickets)` for those that nobody waits for any more.
    """

    def __init__(self):
        self._put, self._sharing = [], threading.Lock()

    def share(self, value):
        """A handle; an object that is shared already is not sent again."""
        with self._sharing:
            for known, handle in self._put:
                if known is value:
                    return handle
            handle = self.put(value)
            self._put.append((value, handle))
            return handle

    def release(self, value):
        """Forgets an object, if it was shared."""
        with self._sharing:
            handles = [handle for known, handle in self._put if known is value]
            self._put = [pair for pair in self._put if pair[0] is not value]
        for handle in handles:
            self.drop(handle)

    def run(self, function, handles, units):
        """Does the units on all workers; see the package's own description.

        Raises:
            LostUnitError: a unit has lost `MOST_LOSSES` workers; or what a unit raised.
            EngineError: what does the units is gone.
            ClosedError: the engine was stopped.
        """
        waiting, going, losses = deque(enumerate(units)), {}, Counter()
        try:
            while waiting or going:
                self.check_open()
                while waiting and len(going) < AHEAD * self.workers:
                    place, unit = waiting.popleft()
                    going[self.submit(function, handles, unit)] = place, unit
                for ticket in self.first(list(going)):
                    place, unit = going.pop(ticket)
                    try:
                        result = self.result(ticket)
                    except WorkerLostError as error:
                        self.check_open()
                        waiting.appendleft((place, unit))
                        losses[place] += 1
                        if losses[place] >= MOST_LOSSES:
                            raise _lost(error, place) from None
                        continue
                    yield place, result
        finally:
            self.forget(list(going))


def _lost(error, place):
    return LostUnitError(
        f"its workers are lost again and again ({error}); each needs about 1 GB of memory: give "
        "fewer --workers, or look into the cluster's logs.",
        place,
    )
