"""Everything that the codec can do, in one object: data sets, their prepared versions, and preparing new images."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

from services.codec.background import MODEL_FILE, Remover, open_remover
from services.codec.dataset import GRACE_S, Datasets
from services.codec.encode import Encoder
from services.codec.encoding import Encodings, Preparer
from services.codec.items import Item, Pixels, Place
from services.codec.options import Options
from services.codec.progress import Progress
from services.codec.reading import OriginalReader, PreparedReader, Selection, select
from services.codec.records import Record
from services.codec.rembg_process import RembgProcess
from services.codec.storage import OpenLog, Store
from services.runtime.child import ChildLimits

_PREPARERS_KEPT = 4


@dataclass(frozen=True)
class ItemsToRead:
    """What a selection found: the items by identifier, those that do not exist, and what reads pixels and masks."""

    items: tuple[Item, ...]
    missing: tuple[str, ...]
    reader: OriginalReader | PreparedReader
    read_mask: Callable[[Item], Pixels | None]

    def items_as_stored(self) -> list[Item]:
        """Returns the items in the order in which their pixels lie, those without pixels first."""
        nowhere = Place("", 0)
        return sorted(self.items, key=lambda item: self.reader.locate(item) or nowhere)


class Codec:
    """The service's model. Safe to use from several threads; `close` ends its child process.

    Args:
        store: the service's own part of the store.
        open_log: opens a log of manifests in it.
        model_folders: where rembg's model is looked for, first come first served.
        idle_s: rembg's process ends after this time without an image.
        grace_s: how long what was written may wait for the manifest that names it.
    """

    def __init__(
        self,
        store: Store,
        open_log: OpenLog,
        model_folders: Sequence[Path],
        idle_s: float = 300.0,
        grace_s: float = GRACE_S,
    ) -> None:
        self.datasets = Datasets(store, open_log, grace_s)
        self.encodings = Encodings(store, self.datasets)
        self._store = store
        self._folders = model_folders
        found = (folder / MODEL_FILE for folder in model_folders if (folder / MODEL_FILE).is_file())
        model = next(found, None)
        self._process = None if model is None else RembgProcess(model, ChildLimits(idle_s=idle_s))
        self._preparers: OrderedDict[str, Preparer] = OrderedDict()
        self._lock = Lock()

    def close(self) -> None:
        """Ends the child process."""
        if self._process is not None:
            self._process.close()

    def find_items(self, dataset: str, selection: Selection, *, prepared: bool, encoding_id: str = "") -> ItemsToRead:
        """Returns the items of the newest version that meet the conditions, and what reads them.

        Raises:
            NotFound: no such data set, encoding or category.
            FailedPrecondition: prepared ones are asked for and nothing was encoded yet.
        """
        snapshot = self.datasets.open(dataset)
        items, missing = select(snapshot, selection)
        reader: OriginalReader | PreparedReader = OriginalReader(self.datasets, snapshot)
        if prepared:
            record = self.encodings.find(snapshot, encoding_id)
            reader = PreparedReader(self.encodings, snapshot, record)
            items = reader.select(items, selection.category) if selection.category else items
        return ItemsToRead(tuple(items), tuple(missing), reader, partial(self.datasets.read_mask, snapshot))

    def open_remover(self, background: str) -> Remover | None:
        """Returns what finds parts by a method of `EncodingOptions`; None for "none".

        Raises:
            FailedPrecondition: rembg is asked for and its model is missing.
        """
        return None if background == "none" else open_remover(background, self._process, self._folders[-1])

    def find_preparer(self, dataset: str, encoding_id: str = "") -> tuple[Record, Preparer]:
        """Returns an encoding, the newest by default, and what prepares images as it did; raises as `find_items`."""
        snapshot = self.datasets.open(dataset)
        record = self.encodings.find(snapshot, encoding_id)
        with self._lock:
            if record.token not in self._preparers:
                remover = self.open_remover(record.options.background)
                self._preparers[record.token] = self.encodings.open_preparer(snapshot, record, remover)
            self._preparers.move_to_end(record.token)
            while len(self._preparers) > _PREPARERS_KEPT:
                self._preparers.popitem(last=False)
            return record, self._preparers[record.token]

    def encode(self, dataset: str, options: Options, progress: Progress, threads: int) -> Record:
        """Makes a prepared version; see `Encoder.encode`."""
        remover = self.open_remover(options.background)
        return Encoder(self.datasets, self._store, progress, threads).encode(dataset, options, remover)
