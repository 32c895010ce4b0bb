"""Mekiki: visual inspection as a set of services, from Python.

    import mekiki

    with mekiki.Client("127.0.0.1:8080") as client:
        for answer in client.anomaly.score_images("screws", ["1.png", "2.png"]):
            print(answer.id, answer.value.score, answer.value.verdict)

`AsyncClient` has the same methods, to be awaited. Everything public is here or in `mekiki.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mekiki._public import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        """A public name, loaded when it is first used.

        numpy and gRPC take most of a second: whoever imports `mekiki.codec.v1` or a type's name alone is spared them.
        """
        if name == "errors":  # a module, which the gathering imports by this very way
            return import_module("mekiki.errors")
        public = import_module("mekiki._public") if name == "__all__" or not name.startswith("_") else None
        try:
            value = globals()[name] = getattr(public, name)
        except AttributeError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *import_module("mekiki._public").__all__})
