"""How fast this package is, as ratios: what it does against what one would otherwise use, in one run, in turns."""
