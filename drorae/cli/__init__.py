"""Command line, ``drorae`` or ``python -m drorae``: ``reconstruct IMAGE... --out DIR``, ``routing IMAGE --out FILE``,
``intervene IMAGE --without LAYER --out FILE``, ``report IMAGE --out FILE``, ``batch IMAGE... --out FILE``,
``gallery IMAGE... --out DIR``, ``compare IMAGE --with TOKENIZER...``, ``sample --class NAME --out FILE`` or ``sample
--prompt TEXT --out FILE``, ``bench``, and ``app``, which serves the explorer.

Every command is a module with its ``HELP``, ``add_options`` and ``run``. It imports what it needs when it runs, so that
``--help`` and mistakes in the options are answered at once. Exit code 0 when everything worked, 2 with one sentence per
problem on the error stream otherwise; 130 after Ctrl-C, 141 when nobody reads the output any more.
"""

from drorae.cli.program import main

__all__ = ["main"]
