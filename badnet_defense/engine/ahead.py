"""What engines with workers share: a few units ahead of each worker, and lost ones done again."""

import threading
from collections import deque

from badnet_defense.engine.serial import Serial
from badnet_defense.errors import InputError

AHEAD = 2
"""Units that are handed out for each worker: one that it does, one that waits for it."""
MOST_PUT = 16
MOST_LOSSES = 3
"""Workers that may be lost one after the other without a unit being done."""


class WorkerLostError(Exception):
    """A worker ended before its unit: killed, out of memory, or its machine is gone."""


class Ahead(Serial):
    """An engine that hands units out a few at a time; a child class says how.

    It has `put(value)`, which gives a handle, and `drop(handle)`; `submit(function, handles,
    unit)`, which gives a ticket; `first(tickets)`, which waits and gives those whose units are
    done; `result(ticket)`, which gives the result or raises `WorkerLostError`; and
    `forget(tickets)` for those that nobody waits for any more.
    """

    def __init__(self):
        self._put, self._sharing = deque(maxlen=MOST_PUT), threading.Lock()

    def share(self, value):
        """A handle; of the objects that were shared last, none is sent again."""
        with self._sharing:
            for known, handle in self._put:
                if known is value:
                    return handle
            handle = self.put(value)
            self._put.append((value, handle))
            return handle

    def release(self, handle):
        """Forgets an object that was shared."""
        with self._sharing:
            kept = [pair for pair in self._put if pair[1] is not handle]
            self._put = deque(kept, maxlen=MOST_PUT)
        self.drop(handle)

    def run(self, function, handles, units):
        """Does the units on all workers; see the package's own description.

        Raises:
            InputError: workers are lost again and again, or what a unit raised.
        """
        waiting, going, losses = deque(enumerate(units)), {}, 0
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
                        waiting.appendleft((place, unit))
                        losses += 1
                        if losses > MOST_LOSSES * self.workers * AHEAD:
                            raise _lost(error) from None
                        continue
                    losses = 0
                    yield place, result
        finally:
            self.forget(list(going))


def _lost(error):
    return InputError(
        f"workers are lost again and again ({error}); each needs about 1 GB of memory: give fewer "
        "--workers, or look into the cluster's logs."
    )
