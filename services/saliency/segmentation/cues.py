"""Where an image certainly shows what its label says, and where certainly nothing: the seeds of a training."""

import numpy as np
import numpy.typing as npt

Maps = npt.NDArray[np.float32]  # (k, h, w), from 0 to 1
Cues = npt.NDArray[np.bool_]  # (k + 1, h, w), class 0 is the background

OBJECT_SHARE = 0.2
"""Of a map's maximum, from which on it is a cue (Kolesnikov and Lampert, section 4.1)."""

BACKGROUND_SHARE = 0.1
"""Of the positions, those that speak least for anything (as there)."""


def find_cues(
    maps: Maps,
    present: npt.NDArray[np.bool_],
    object_share: float = OBJECT_SHARE,
    background_share: float = BACKGROUND_SHARE,
) -> Cues:
    """Returns the cues of one image; where two classes claim a position, the one that claims fewer has it.

    Args:
        maps: how much each position speaks for each class, 0 or more.
        present: the classes that the image shows, (k,). Without any, all of it is background.
        object_share: of a class's maximum, above 0 to 1.
        background_share: of all positions, 0 to 1.
    """
    cues = np.zeros((len(maps) + 1, *maps.shape[1:]), np.bool_)
    shown = np.flatnonzero(present & (maps.max((1, 2)) > 0))
    if not present.any():
        cues[0] = True
        return cues
    claims = {number: maps[number] >= object_share * maps[number].max() for number in shown}
    taken = np.zeros(maps.shape[1:], np.bool_)
    for number in sorted(shown, key=lambda number: int(claims[number].sum())):
        cues[number + 1] = claims[number] & ~taken
        taken |= claims[number]
    loudest = maps[present].max(0)
    quiet = loudest <= np.quantile(loudest, background_share)
    cues[0] = quiet & ~taken
    return cues
