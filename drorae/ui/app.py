"""The explorer as a program: ``drorae app`` and ``python app.py``, here and on a Space."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

# Before Gradio is imported: no version check, no telemetry.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from drorae.ui import gpu  # before anything that could touch CUDA

# isort: split
from drorae.bundled import DEFAULT_GENERATOR, DEFAULT_MODEL, DEFAULT_TEXT_GENERATOR, bundled_path, is_bundled
from drorae.checkpoints import local_folder
from drorae.devices import DEVICE, PRECISION, PRECISIONS, best_device, multiplies_bf16, page_precision
from drorae.errors import DRoRAEError
from drorae.pretrained.adapter import cast_weights, load_tokenizer
from drorae.ui.mcp import mcp_options
from drorae.ui.page import build_demo, launch_options
from drorae.ui.quiet_logs import keep_logs_quiet
from drorae.ui.reach import is_for_this_machine
from drorae.ui.upload_folder import ending_as_interrupted, own_upload_folder


def bypass_proxies(host: str | None) -> None:
    """Except this machine from ``HTTP_PROXY`` and its like: Gradio asks its own server whether it is up."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    here = ["127.0.0.1", "localhost", host or os.environ.get("GRADIO_SERVER_NAME") or ""]
    hosts = dict.fromkeys(each.strip() for each in [*named.split(","), *here])
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, hosts))


MODEL, GENERATOR, TEXT_GENERATOR = "DRORAE_MODEL", "DRORAE_GENERATOR", "DRORAE_TEXT_GENERATOR"
TOKENIZERS, TOOLS = "DRORAE_TOKENIZERS", "DRORAE_MCP"  # where nobody types options: in a container, on a Space
FIXED = "On ZeroGPU all models are loaded before the page is served; leave --any-model out and name them with --model "
FIXED += "and --tokenizers."


def main(argv: list[str] | None = None) -> int:
    """Load the model and serve the page; returns the exit code."""
    keep_logs_quiet()
    with ending_as_interrupted(), own_upload_folder():
        return serve(argv)


def serve(argv: list[str] | None) -> int:
    """:func:`main`, once there is a place for uploads."""
    parser = argparse.ArgumentParser(prog=_program(), description="The DRoRAE explorer.")
    parser.add_argument(
        "--model",
        default=os.environ.get(MODEL) or DEFAULT_MODEL,
        help="folder or Hub id (id@revision); RAE and adapters too (default: %(default)s)",
    )
    parser.add_argument(
        "--generator",
        default=os.environ.get(GENERATOR),
        help="pipeline folder or Hub id for Generate (default: the embedded one, if it fits)",
    )
    parser.add_argument(
        "--text-generator", default=os.environ.get(TEXT_GENERATOR), help="the same, of a text-to-image pipeline"
    )
    parser.add_argument("--host", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument("--browser", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--any-model",
        action="store_true",
        help="let visitors load other models also where the page is served to others (default: on this machine only)",
    )
    parser.add_argument(
        "--tokenizers",
        nargs="+",
        default=os.environ.get(TOKENIZERS, "").split(),
        metavar="NAME",
        help="folders or Hub ids of tokenizers that visitors may compare with also where they may not load models",
    )
    parser.add_argument(
        "--mcp",
        action="store_true",
        default=os.environ.get(TOOLS, "").lower() in ("1", "true"),
        help="also serve the endpoints as MCP tools",
    )
    parser.epilog = (
        f"{PRECISION}=bf16 in the environment computes in bf16: faster on machines that have it, and with numbers that "
        f"differ a little from those that others see (default: fp32). {DEVICE} chooses where networks run. {MODEL}, "
        f"{GENERATOR}, {TEXT_GENERATOR}, {TOKENIZERS} and {TOOLS}=1 stand for the options of these names."
    )
    args = parser.parse_args(argv)
    if args.mcp and find_spec("mcp") is None:
        print('--mcp needs the package mcp; install it with: pip install "gradio[mcp]"', file=sys.stderr)
        return 2
    if gpu.ON_ZEROGPU and args.any_model:
        print(FIXED, file=sys.stderr)
        return 2
    try:
        precision, device = page_precision(), best_device()
        if precision is PRECISIONS["bf16"] and not multiplies_bf16(device):
            print(f"{PRECISION}=bf16 is slower than fp32 here: this processor only emulates it.", file=sys.stderr)
        model = cast_weights(load_tokenizer(args.model), precision).to(device)
        folder = local_folder(args.model)
        embedded = folder is not None and folder.resolve() == bundled_path(DEFAULT_MODEL)
        generator = args.generator or (DEFAULT_GENERATOR if embedded and is_bundled(DEFAULT_GENERATOR) else None)
        text = args.text_generator
        text = text or (DEFAULT_TEXT_GENERATOR if embedded and is_bundled(DEFAULT_TEXT_GENERATOR) else None)
        alone = is_for_this_machine(args.host)
        switch = alone or args.any_model
        demo = build_demo(model, args.model, generator, text, switch=switch, tokenizers=args.tokenizers)
    except DRoRAEError as error:
        print(error, file=sys.stderr)
        return 2
    bypass_proxies(args.host)
    options = launch_options(here_only=alone and not args.any_model)
    if args.mcp:
        options = mcp_options(demo, options)
    try:
        demo.launch(server_name=args.host, server_port=args.port, inbrowser=args.browser, **options)
    except (OSError, OverflowError):  # Gradio's message speaks of its own variables
        where = f"{args.host or '127.0.0.1'}:{args.port or 'a port from 7860 to 7959'}"
        print(f"The page could not be served at {where}; check --host, or try another --port.", file=sys.stderr)
        return 2
    return 0


def _program() -> str:
    """How the program was started, for its usage line."""
    return "python app.py" if Path(sys.argv[0]).name == "app.py" else "drorae app"
