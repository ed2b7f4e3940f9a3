"""Names and numbers that a caller chooses from. ``--help`` shows them, so nothing heavy is imported here."""

DECODERS = ("original", "finetuned")
GUIDANCE = ("none", "cfg", "autoguidance")
SIDE = 256  # pixels: the square that models of any size work on unless told otherwise
