"""Removes what nobody refers to: objects that killed writers left behind, and those that newer manifests have replaced.

What is swept is a unit: one object, or a few that belong together. A unit goes when it was last written to more than
two graces ago and neither the newest manifest names it nor the one that was the newest a grace ago. That is safe
because everybody who writes to a swept folder keeps three promises:

1. A unit is named within one grace of the last write to it, or never; nobody builds upon what somebody else left.
2. A unit that is named no more is never named again.
3. Whoever has read a manifest opens what it names within one grace. (What the newest manifest names is never swept, so
   that a reader may take for ever over pixels, which later manifests name as well.)

For suppose that a reader holds a manifest that names a swept unit. By 3 it was the newest within the last grace, so it
comes after the one of a grace ago; that does not name the unit, so by 2 the unit was first named less than one grace
ago, and by 1 last written to less than two graces ago: then it was not swept. A writer in flight has, by 1, written
less than one grace ago. Nothing of this depends on who sweeps: any number of replicas may, at once, and a sweep that is
killed at any deletion has only removed some of what nobody refers to. Clocks may differ by far less than a grace.
"""

import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from services.runtime.chore import Chore, IsClosed
from services.runtime.logs import get_logger
from services.runtime.manifest import Body, ManifestLog
from services.runtime.store import Store

FIRST_AFTER_S = 60.0
"""A start is never slowed by a sweep, but a process that lives for some minutes still makes one."""


@dataclass(frozen=True)
class Ground:
    """A folder to sweep, and the log that says what in it counts."""

    store: Store
    folder: str
    log: ManifestLog
    list_named: Callable[[Body, Body], AbstractSet[str]]
    """Given the newest body and that of a grace ago: the units that either names. Raises rather than leave one out."""
    find_unit: Callable[[str], str]
    """The unit that a key of the store belongs to."""


def sweep(ground: Ground, grace_s: float, now_s: float | None = None) -> list[str]:
    """Deletes the objects of a folder that nobody can refer to any more; returns their keys.

    `now_s` is the time since 1970. Raises what the store and the log raise; then some may be deleted and some not.
    """
    now_s = time.time() if now_s is None else now_s
    doomed = _list_old(ground, now_s - 2 * grace_s)
    if not doomed:
        return []
    settled, newest = ground.log.as_of(now_s - grace_s), ground.log.latest()
    if newest.number == 0:  # a log that is gone condemns nothing: somebody may bring it back
        return []
    named = ground.list_named(newest.body, settled.body)
    gone = [key for unit, keys in doomed.items() if unit not in named for key in keys]
    for key in gone:
        ground.store.delete(key)
    return gone


def _list_old(ground: Ground, before_s: float) -> dict[str, list[str]]:
    """The keys of every unit that nothing was written to since."""
    units: dict[str, list[str]] = {}
    times = ground.store.list_times(ground.folder)
    for key in sorted(times):
        units.setdefault(ground.find_unit(key), []).append(key)
    return {unit: keys for unit, keys in units.items() if max(times[key] for key in keys) <= before_s}


def open_sweeper(list_grounds: Callable[[], Iterable[Ground]], grace_s: float, every_s: float) -> Chore:
    """Sweeps again and again.

    Args:
        list_grounds: finds what to sweep, every time anew.
        grace_s: see above.
        every_s: seconds between two sweeps, about.
    """

    def sweep_all(is_closed: IsClosed) -> None:
        for ground in list_grounds():
            if is_closed():
                return
            _sweep_one(ground, grace_s)

    return Chore("sweep", sweep_all, every_s, min(FIRST_AFTER_S, every_s))


def _sweep_one(ground: Ground, grace_s: float) -> None:
    log = get_logger(folder=ground.store.prefix + ground.folder)
    try:
        gone = sweep(ground, grace_s)
    except Exception:  # one damaged folder must not keep the others from being swept
        log.warning("sweep failed", exc_info=True)
    else:
        if gone:
            log.info("swept", objects=len(gone))
