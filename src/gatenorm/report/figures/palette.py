"""The colours of all plots: few, told apart by the colour-blind, never the only thing that tells marks apart."""

from __future__ import annotations

from collections.abc import Mapping

# Okabe and Ito's palette without yellow, which print loses.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
PLAIN, MARKED = "#0072B2", "#E69F00"
# One hue from dark to light: the order survives print in grey and every kind of colour blindness.
SHADES = ("#08306b", "#2171b5", "#6baed6", "#c6dbef")
KEPT = "#ffffff"
# From orange over white to blue.
DIVERGING = ("#D55E00", "#ffffff", "#0072B2")
BAND = "rgba(150,150,150,0.35)"
GAP = "#999999"
# What stands for a colour on a dark ground: the same hues, lighter, and the paper's white as the dark paper.
ON_DARK: Mapping[str, str] = {
    "#0072B2": "#4FA8DC",
    "#D55E00": "#F08A4B",
    "#009E73": "#3CC29A",
    "#CC79A7": "#DDA0C3",
    "#56B4E9": "#9AD4F5",
    "#E69F00": "#F2BC4A",
    "#000000": "#F1F3F5",
    "#ffffff": "#20262D",
    "#08306b": "#D3E6F7",
    "#2171b5": "#82B8E3",
    "#6baed6": "#3F7DB3",
    "#c6dbef": "#284867",
    "#999999": "#4A535D",
}
