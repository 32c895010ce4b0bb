"""The demonstration: a folder of part images through all four services, and a report of what came of it."""

from mekiki.demo.host import ServicesFailed
from mekiki.demo.run import run_demo
from mekiki.demo.source import BadFolder

__all__ = ["BadFolder", "ServicesFailed", "run_demo"]
