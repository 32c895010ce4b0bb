"""Photo-like pictures of screws, nuts and washers with the truth about every defect."""

from mekiki.sample_parts.defect import DEFECTS
from mekiki.sample_parts.folder import EMPTY, KINDS, render_kinds, render_parts

__all__ = ["DEFECTS", "EMPTY", "KINDS", "render_kinds", "render_parts"]
