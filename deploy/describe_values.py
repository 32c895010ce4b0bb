"""Makes the chart's values.schema.json and README.md from the keys, defaults and comments of its values.yaml.

    python deploy/describe_values.py [chart folder]

The lines of comment right above a key are what the key means; a line `# @schema {...}` narrows what it takes.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "chart"
NARROWED = "@schema "
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}

_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
_QUANTITIES = {"type": "object", "additionalProperties": {"anyOf": [_QUANTITY, {"type": "integer", "minimum": 0}]}}
_EXPRESSION = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "key": {"type": "string"},
        "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
        "values": {"type": "array", "items": {"type": "string"}},
    },
}
_SELECTOR = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"matchLabels": _TEXTS, "matchExpressions": {"type": "array", "items": _EXPRESSION}},
}
_IP_BLOCK = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"cidr": {"type": "string"}, "except": {"type": "array", "items": {"type": "string"}}},
}
_PEER = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {"podSelector": _SELECTOR, "namespaceSelector": _SELECTOR, "ipBlock": _IP_BLOCK},
}
_TOLERATION = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "key": {"type": "string"},
        "operator": {"enum": ["Exists", "Equal"]},
        "value": {"type": "string"},
        "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        "tolerationSeconds": {"type": "integer"},
    },
}
DEFINITIONS: dict[str, Any] = {
    "texts": _TEXTS,
    "environment": _TEXTS | {"propertyNames": {"pattern": "^[A-Za-z_]", "not": {"pattern": "^MEKIKI_"}}},
    "quantity": _QUANTITY,
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
    },
    "tolerations": {"type": "array", "items": _TOLERATION},
    "peers": {"type": "array", "items": _PEER},
    "ports": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
}
"""What Kubernetes means by these words, as far as the chart passes it on."""


@dataclass(frozen=True)
class Key:
    """A key of values.yaml.

    Attributes:
        path: its names, from the outside in.
        meaning: its comment, without line breaks.
        default: its value.
        narrowed: what the comment says of the values that it takes; {} where it says nothing.
        keys: the keys in it; none for a plain value, and for a map that is passed on to Kubernetes.
    """

    path: tuple[str, ...]
    meaning: str
    default: Any
    narrowed: dict[str, Any]
    keys: tuple["Key", ...]

    @property
    def name(self) -> str:
        """Its name among its siblings."""
        return self.path[-1]


def read_keys(text: str) -> tuple[Key, ...]:
    """Returns the outermost keys of a values.yaml."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("values.yaml must be a map")  # noqa: TRY004 - its value is wrong, not a caller's type
    return tuple(_read_key((), key, node, text.splitlines()) for key, node in root.value)


def _read_key(above: tuple[str, ...], key: yaml.ScalarNode, node: yaml.Node, lines: list[str]) -> Key:
    path = (*above, key.value)
    comment = list(_read_comment(lines, key.start_mark.line))
    narrowed = [line.removeprefix(NARROWED) for line in comment if line.startswith(NARROWED)]
    free = any("$ref" in line for line in narrowed)
    inner = node.value if isinstance(node, yaml.MappingNode) and not free and not node.flow_style else ()
    return Key(
        path=path,
        meaning=" ".join(line for line in comment if not line.startswith("@")),
        default=yaml.SafeLoader("").construct_object(node, deep=True),
        narrowed=json.loads(narrowed[0]) if narrowed else {},
        keys=tuple(_read_key(path, name, value, lines) for name, value in inner),
    )


def _read_comment(lines: list[str], line: int) -> Iterator[str]:
    start = line
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    for text in lines[start:line]:
        yield text.lstrip().removeprefix("#").strip()


def write_schema(keys: tuple[Key, ...]) -> dict[str, Any]:
    """Returns the JSON schema of the values: nothing but the keys, with the types of their defaults."""
    properties = {key.name: _write(key) for key in keys}
    services = {service.name: _write_service(service, keys) for service in _find(keys, "services")}
    properties["services"] = _allow_only(services)
    properties["global"] = {"type": "object", "description": "Helm's own, for charts within charts"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Mekiki chart",
        **_allow_only(properties),
        "$defs": DEFINITIONS,
    }


def _write(key: Key) -> dict[str, Any]:
    """One key's schema."""
    said = {"description": key.meaning}
    if "$ref" in key.narrowed:
        others = {name: value for name, value in key.narrowed.items() if name != "$ref"}
        return {"allOf": [{"$ref": key.narrowed["$ref"]}], **others, **said}
    if key.keys:
        return _allow_only({inner.name: _write(inner) for inner in key.keys}) | said
    return {"type": TYPES[type(key.default)]} | key.narrowed | said


def _write_service(service: Key, keys: tuple[Key, ...]) -> dict[str, Any]:
    """A service takes every key of `defaults`, and in `config` every key of the one above and its own."""
    own = {key.name: _write(key) for key in _find(service.keys, "config")}
    config = _refer(keys, "config") | own
    return _allow_only(_refer(keys, "defaults") | {"config": _allow_only(config)}) | {"description": service.meaning}


def _refer(keys: tuple[Key, ...], name: str) -> dict[str, Any]:
    """To the schemas of the keys within the outermost key of that name."""
    return {key.name: {"$ref": f"#/properties/{name}/properties/{key.name}"} for key in _find(keys, name)}


def _find(keys: tuple[Key, ...], name: str) -> tuple[Key, ...]:
    """The keys within the key of that name."""
    return next((key.keys for key in keys if key.name == name), ())


def _allow_only(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def write_readme(keys: tuple[Key, ...]) -> str:
    """Returns the README: how to install, and a table of all keys."""
    rows = [f"| `{'.'.join(key.path)}` | {_write_default(key)} | {_escape(key.meaning)} |" for key in _walk(keys)]
    return "\n".join([HEAD, "| key | default | meaning |", "|---|---|---|", *rows, ""])


HEAD = """# The chart of Mekiki

`helm install mekiki deploy/chart --namespace plant --create-namespace --set config.store_url=s3://bucket/prefix`

How it is meant to be used: [docs/kubernetes.md](../../docs/kubernetes.md).

This page and values.schema.json are made from values.yaml by `make chart`. A key that is not here, or a value that
a key does not take, is refused at install, with the key's name. `services.<name>` takes every key of `defaults`, and
`services.<name>.config` every key of `config`, for that service alone.
"""


def _walk(keys: tuple[Key, ...]) -> Iterator[Key]:
    for key in keys:
        if key.keys:
            yield from _walk(key.keys)
        else:
            yield key


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|")


def _write_default(key: Key) -> str:
    """As JSON, so that a text and a number look different; nothing for what is empty."""
    return f"`{json.dumps(key.default)}`" if key.default not in ("", [], {}) else ""


def main(folder: Path) -> None:
    """Writes both files anew."""
    keys = read_keys((folder / "values.yaml").read_text(encoding="utf-8"))
    schema = json.dumps(write_schema(keys), indent=2, ensure_ascii=False)
    (folder / "values.schema.json").write_text(schema + "\n", encoding="utf-8")
    (folder / "README.md").write_text(write_readme(keys), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART)
