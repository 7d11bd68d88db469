"""The colours of all figures: safe for colour-blind readers, and each with its counterpart on a dark page."""

# Okabe and Ito's palette without yellow, which is too faint on white. Shapes and dashes tell series apart as well.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
BARS, MARKED = "#0072B2", "#E69F00"
# One hue from dark to light: the order survives grey print and every kind of colour blindness.
SHADES = ("#08306b", "#2171b5", "#6baed6", "#c6dbef")
PAPER, INK, MUTED, LINE, GRID, BAND = "#ffffff", "#1b2026", "#525c66", "#8a939c", "#e3e6e9", "#d9dcdf"
# Text on a strongly coloured cell.
ON_COLOUR = "#fefefe"
NEGATIVE, POSITIVE = "#D55E00", "#0072B2"

_ON_DARK = {
    "#0072B2": "#4FA8DC",
    "#D55E00": "#F08A4B",
    "#009E73": "#3CC29A",
    "#CC79A7": "#DDA0C3",
    "#56B4E9": "#9AD4F5",
    "#E69F00": "#F2BC4A",
    "#000000": "#F1F3F5",
    "#08306b": "#D3E6F7",
    "#2171b5": "#82B8E3",
    "#6baed6": "#33699a",
    "#c6dbef": "#284867",
    PAPER: "#181d22",
    INK: "#e8ecf0",
    MUTED: "#a9b3bd",
    LINE: "#6b7681",
    GRID: "#2c343c",
    BAND: "#39424b",
    ON_COLOUR: "#12161a",
}


def page_colours() -> str:
    """CSS that lets the figures of a page follow its colour scheme: they are drawn in the colours of a light one."""
    return "\n".join(
        f'.figure [{attribute}="{light}"]{{{attribute}:light-dark({light},{dark})}}'
        for light, dark in _ON_DARK.items()
        for attribute in ("fill", "stroke")
    )
