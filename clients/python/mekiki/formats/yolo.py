"""YOLO: a text file a picture, as Ultralytics lays it out: images/<split>/, labels/<split>/, data.yaml.

A line is a class's number, and a box's centre and size in shares of the picture's (docs.ultralytics.com, "Object
detection datasets overview"); a line with more numbers is a polygon. Classes are named by data.yaml, or, as older
tools have it, by classes.txt or obj.names, a name a line.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from mekiki.formats.files import ImageFiles, name_split
from mekiki.formats.guard import read_text, reading, take_label, take_number
from mekiki.formats.outlines import bound_polygons, take_polygon
from mekiki.formats.picture import Picture
from mekiki.formats.told import SPLITS, Marks, Told, ToldBox

NAME = "YOLO annotation"
LISTS = ("classes.txt", "obj.names")
TEXT_LIMIT = 16 << 20  # bytes of one picture's file
NAMES_LIMIT = 1 << 20  # bytes of the file that names the classes
CLASSES = 100_000


def write_yolo(out: Path, pictures: Iterable[Picture], *, lossless: bool = False) -> int:
    """Write pictures below `out` and return how many; those of no split go to train. YOLO boxes have no masks here.

    Raises:
        OSError: a file could not be written.
    """
    files, numbers = ImageFiles(lossless=lossless), dict[str, int]()
    counts = defaultdict[str, int](int)
    for picture in pictures:
        split = name_split(picture.split, "train")
        written = files.write(out / "images" / split, picture)
        lines = [_write_line(picture, number, numbers) for number in range(len(picture.marks))]
        (out / "labels" / split).mkdir(parents=True, exist_ok=True)
        (out / "labels" / split / f"{written.stem}.txt").write_text("".join(lines), encoding="utf-8")
        counts[split] += 1
    out.mkdir(parents=True, exist_ok=True)
    (out / "data.yaml").write_text(_describe(sorted(counts), list(numbers)), encoding="utf-8")
    return sum(counts.values())


def _write_line(picture: Picture, number: int, numbers: dict[str, int]) -> str:
    note = picture.marks[number].annotation
    box, sides = note.box, (picture.width, picture.height)
    centre = ((box.x_min + box.x_max) / 2 / sides[0], (box.y_min + box.y_max) / 2 / sides[1])
    shares = (*centre, box.width / sides[0], box.height / sides[1])
    return f"{numbers.setdefault(note.label, len(numbers))} {' '.join(f'{share:.10g}' for share in shares)}\n"


def _describe(splits: Sequence[str], labels: Sequence[str]) -> str:
    import yaml  # noqa: PLC0415 -- only this format waits for it

    # Trainers ask for both; where nothing is held out, they are told to look at what they learn from.
    told = {"train": "images/train", "val": f"images/{'val' if 'val' in splits else 'train'}"}
    told |= {split: f"images/{split}" for split in splits}
    return str(yaml.safe_dump({**told, "names": dict(enumerate(labels))}, allow_unicode=True, sort_keys=False))


def read_classes(root: Path, paths: Sequence[Path]) -> list[str]:
    """The names of the classes, of the first file among `paths` that names them; empty where none does.

    Raises:
        ValueError: the file cannot be read.
    """
    for path in paths:
        if path.name.lower() in LISTS:
            with reading(path, "list of classes"):
                return [take_label(line) for line in read_text(path, root, NAMES_LIMIT).splitlines() if line.strip()]
        if path.suffix.lower() in (".yaml", ".yml") and path.parent == root:
            with reading(path, "YOLO data file"):
                names = _read_yaml(read_text(path, root, NAMES_LIMIT))
            if names:
                return names
    return []


def _read_yaml(text: str) -> list[str]:
    import yaml  # noqa: PLC0415 -- as above

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("has aliases, which may grow without end")
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from error
    names = told.get("names") if isinstance(told, dict) else None
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise ValueError("names must be numbered from 0 without gaps")
        names = [names[number] for number in range(len(names))]
    if names is not None and not (isinstance(names, list) and len(names) <= CLASSES):
        raise ValueError(f"names must be a list of at most {CLASSES} names, or numbered")
    return [take_label(name) for name in names or ()]


def read_yolo(path: Path, root: Path, classes: Sequence[str], marks: Marks) -> None:
    """Reads the boxes of one picture: images/a.jpg for labels/a.txt, or the one beside the file."""
    place = path.relative_to(root).with_suffix("")
    parts = list(place.parts)
    if "labels" in parts[:-1]:
        last = len(parts) - 2 - parts[:-1][::-1].index("labels")
        parts[last] = "images"
    split = next((SPLITS[part.lower()] for part in parts[:-1] if part.lower() in SPLITS), "")
    with reading(path, NAME):
        lines = read_text(path, root, TEXT_LIMIT).splitlines()
        boxes = tuple(_read_line(line.split(), classes) for line in lines if line.strip())
        told = Told(path.relative_to(root).as_posix(), boxes, split=split)
        marks.add(PurePosixPath(*parts).as_posix(), told)


def _read_line(words: Sequence[str], classes: Sequence[str]) -> ToldBox:
    numbers = [take_number(word, "a number") for word in words]
    kind = int(numbers[0])
    if kind != numbers[0] or not 0 <= kind < len(classes):
        raise ValueError(f"a class must be 0 to {len(classes) - 1}, is {words[0][:20]}")
    if len(numbers) in (5, 6):
        x, y, width, height = numbers[1:5]
        score = numbers[5] if len(numbers) == 6 else 1.0
        if not 0 <= score <= 1:
            raise ValueError(f"a confidence must be 0 to 1, is {score}")
        ends = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return ToldBox(classes[kind], ends, is_share=True, score=score)
    return ToldBox(classes[kind], bound_polygons([take_polygon(numbers[1:])]), is_share=True)
