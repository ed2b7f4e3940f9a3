"""The study: which experiments there are, how they run, their tables, statistics and report."""
