"""XML as the formats write it."""

import re
from xml.etree import ElementTree as ET

# What XML 1.0 cannot hold, not even escaped (section 2.2).
_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def add_texts(parent: ET.Element, **values: object) -> None:
    """Adds an element for each value."""
    for tag, value in values.items():
        ET.SubElement(parent, tag).text = clean(value)


def clean(value: object) -> str:
    """A value as XML can hold it."""
    return _UNSPEAKABLE.sub("\ufffd", str(value))


def to_bytes(root: ET.Element) -> bytes:
    """A document, indented."""
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"
