"""Where units of work are done: here, in processes of this machine, or on a Ray cluster.

A unit is a call of a function of a module with plain values and arrays. What all units of a job
share is handed to each worker once. An engine has

- `workers`: how many units are done at once;
- `gpus`: how many GPUs they compute on; None where nobody has looked yet;
- `apart`: True where workers may see other disks than this process does;
- `share(value)`: a handle for what many units need; the same for the same object; and
  `release(value)` when none will need it any more;
- `run(function, handles, units)`: gives `(place, function(*values, *unit))` for each of the units,
  with the values behind the handles, in the order in which they end; what a function raises, it
  raises;
- `stop()`, after which it does nothing more: those who wait for units get `ClosedError`; and
  `close()`, when nobody waits any more; each is a context manager that closes itself.

Several threads may use one engine.

A worker process computes with one thread, here and on a cluster, so that results are the same
number for number, whoever does a unit. A unit whose worker is lost is done again by another.
"""

from badnet_defense.parallel.serial import ClosedError, Serial

NAMES = ("local", "ray")
AUTO = "auto"

__all__ = ["AUTO", "NAMES", "ClosedError", "Serial", "engine_for", "open_engine"]


def engine_for(units, engine):
    """The engine for so many units: one alone is done here, since starting workers takes seconds.

    Args:
        units: how many.
        engine: what would do them; kept where it may have a GPU.
    """
    return Serial() if units <= 1 and not engine.gpus else engine


def open_engine(name, *, address=AUTO, workers=None):
    """An engine by its name.

    Args:
        name: one of `NAMES`.
        address: of the Ray cluster; "auto" finds the one that this machine belongs to.
        workers: processes of the local engine; default: one for each core or GPU.

    Raises:
        InputError: no such cluster answers, or Ray is not installed.
    """
    if name == "ray":
        from badnet_defense.parallel.ray_cluster import RayEngine

        return RayEngine(address)
    from badnet_defense.parallel.local import LocalEngine

    return LocalEngine(workers)
