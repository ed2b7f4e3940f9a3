"""Colours of charts."""

INK = "#585e68"

# Series of charts, in the page's colours on light paper; its style sheet turns them into those on dark. Shape and
# filling say the same.
PEER, PAPER, OURS, STATED, OTHER = "#767c86", "#1f5fbf", "#c2470b", "#0b7a53", "#8a2fa0"
