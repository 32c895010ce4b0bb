"""The few shapes that the charts are drawn with, as SVG text. Everything that is written is escaped."""

from html import escape

INK, MUTED, HAIR, PAPER = "#1c2329", "#66717c", "#d5d9dd", "#ffffff"
BLUE, RED = "#0072b2", "#d55e00"  # Okabe and Ito, "Color universal design" (2008): told apart by everybody
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def drawing(width: float, height: float, title: str, shapes: list[str]) -> str:
    """Return a drawing that scales to the width it is given."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}" font-family="{escape(FONT)}" font-size="12" fill="{INK}">'
        f"<title>{escape(title)}</title>{''.join(shapes)}</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str = HAIR, width: float = 1, dash: str = "") -> str:
    """Return a straight line."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"'
        f"{dashes}/>"
    )


def rectangle(x: float, y: float, width: float, height: float, colour: str, opacity: float = 1) -> str:
    """Return a filled rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" fill="{colour}" '
        f'fill-opacity="{opacity:g}"/>'
    )


def dot(x: float, y: float, radius: float, colour: str) -> str:
    """Return a dot with a thin paper-coloured rim."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.2f}" fill="{colour}" stroke="{PAPER}" stroke-width="0.8"/>'


def ring(x: float, y: float, radius: float, colour: str) -> str:
    """Return a ring."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.2f}" fill="{PAPER}" stroke="{colour}" stroke-width="2.2"/>'


def text(x: float, y: float, words: str, colour: str = INK, anchor: str = "start", weight: int = 400) -> str:
    """Return a line of text, bold ones haloed to be read over lines; `anchor` is start, middle or end."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}" '
        f'paint-order="stroke" stroke="{PAPER}" stroke-width="{4 if weight > 400 else 0}">'
        f"{escape(words)}</text>"
    )


def path(points: list[tuple[float, float]], colour: str, width: float = 2, fill: str = "none") -> str:
    """Return a line through the points."""
    steps = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return f'<path d="{steps}" fill="{fill}" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round"/>'
