"""Colours of charts and viewers that mean the same thing everywhere."""

# The ends of ColorBrewer's RdBu scale, in the shades that read on light and dark pages.
ADDED, SUPPRESSED = "#c43c39", "#2f79b5"
INK = "#585e68"

# Series of charts, in the page's colours on light paper; its style sheet turns them into those on dark. Shape and
# filling say the same.
PEER, PAPER, OURS, STATED, OTHER = "#767c86", "#1f5fbf", "#c2470b", "#0b7a53", "#8a2fa0"
