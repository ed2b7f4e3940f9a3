"""Colours of charts and viewers that mean the same thing everywhere."""

# The ends of ColorBrewer's RdBu scale, in the shades that read on light and dark pages.
ADDED, SUPPRESSED = "#c43c39", "#2f79b5"
INK = "#808080"
