"""How results are measured: distances between sets of pictures, judges, baselines."""
