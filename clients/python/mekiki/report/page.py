"""From values to a page."""

from pathlib import Path

import jinja2
from markupsafe import Markup

REPORT = "report.html"
"""The name of a page in its folder."""


def render(template: Path, **values: object) -> str:
    """The page that a template makes of values; whatever came from outside is escaped. `style` is every page's."""
    css = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(css)  # noqa: S704 -- a file of ours
    return environment.get_template(template.name).render(style=style, **values)
