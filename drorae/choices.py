"""Names and numbers that a caller chooses from. ``--help`` shows them, so nothing heavy is imported here."""

CONTESTS = ("rae", "fused", "experts", "bundle", "guidance", "bf16", "compile", "import", "start")  # of the benchmark
DECODERS = ("original", "finetuned")
GUIDANCE = ("none", "cfg", "autoguidance")
LARGEST = 512  # pixels: the side that a page works at for others, who could ask for hours of computing
SIDE = 256  # pixels: the square that models of any size work on unless told otherwise
