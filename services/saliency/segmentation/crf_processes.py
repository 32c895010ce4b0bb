"""The dense CRF in processes of its own: it keeps the interpreter for seconds, and calls and health must be answered.

pydensecrf releases the GIL nowhere: its module does not import PyEval_SaveThread, and a thread that ought to wake every
millisecond beside it stands still. So threads would not do.
"""

import queue

import numpy as np

from services.runtime.child import Child, ChildLimits
from services.saliency.segmentation.crf_child import HEADER
from services.saliency.segmentation.dense_crf import Pixels, Scores


class CrfProcesses:
    """Refines scores as `apply_crf` does, one image a process at a time. Thread-safe; each starts when first needed.

    Args:
        count: most processes.
        limits: when one is replaced.
    """

    def __init__(self, count: int, limits: ChildLimits | None = None) -> None:
        self.count = count
        self._all = [
            Child("dense CRF", "services.saliency.segmentation.crf_child", limits=limits) for _ in range(count)
        ]
        # The one that rested last is taken first: the others may end when idle.
        self._resting: queue.LifoQueue[Child] = queue.LifoQueue()
        for child in self._all:
            self._resting.put(child)

    def refine(self, scores: Scores, picture: Pixels) -> Scores:
        """Gives scores (k, h, w) of a picture (h, w, 3) after the CRF; waits until a process is at rest.

        Raises:
            Unavailable: the process cannot be started, died, or took too long; the next call starts a new one.
        """
        request = HEADER.pack(*scores.shape) + scores.astype("<f4").tobytes() + picture.tobytes()
        child = self._resting.get()
        try:
            answer = child.ask(request)
        finally:
            self._resting.put(child)
        return np.frombuffer(answer, "<f4").reshape(scores.shape)

    def close(self) -> None:
        """Ends them."""
        for child in self._all:
            child.close()
