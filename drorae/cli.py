"""Command line, ``drorae`` or ``python -m drorae``: ``reconstruct IMAGE... --out DIR``, ``routing IMAGE --out FILE``,
``intervene IMAGE --without LAYER --out FILE``, ``report IMAGE --out FILE``, ``batch IMAGE... --out FILE``,
``gallery IMAGE... --out DIR``, ``compare IMAGE --with TOKENIZER...``, ``sample --class NAME --out FILE`` or ``sample
--prompt TEXT --out FILE``, ``bench``, and ``app``, which serves the explorer.

Every command imports what it needs when it runs, so that ``--help`` and mistakes in the options are answered at once.
Exit code 0 when everything worked, 2 with one sentence per problem on the error stream otherwise; 130 after Ctrl-C, 141
when nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from drorae import __version__
from drorae.bundled import DEFAULT_GENERATOR, DEFAULT_MODEL, DEFAULT_TEXT_GENERATOR, picture_path
from drorae.choices import CONTESTS, DECODERS, GUIDANCE, SIDE
from drorae.console import INTERRUPTED, run_command
from drorae.errors import DRoRAEError, count_of
from drorae.whole_file import whole_file

if TYPE_CHECKING:
    import numpy as np

    from drorae.explorer.explore import Exploration
    from drorae.models.autoencoder import AutoencoderDRoRAE

# How a verdict is said in a sentence.
STANDING = {
    "yes": "its error is about that of the picture as trained",
    "partly": "its error may be larger than that of the picture as trained",
    "no": "its error is larger than that of the picture as trained",
    "unknown": "how its error compares with the picture as trained was not measured for this model",
}


ESCAPED = "backslashreplace"  # what UTF-8 has no bytes for: names of files that are not UTF-8


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["app"]:
        return _app(arguments[1:])
    return run_command(lambda: _run(_parser().parse_args(arguments)))


def _run(args: argparse.Namespace) -> int:
    try:
        wrong = _misdirected(args)
        return _fail(wrong) if wrong else args.run(args)
    except DRoRAEError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the output's, not --out
        raise
    except OSError as error:
        if args.out is None:
            raise
        reason = error.strerror or type(error).__name__
        return _fail(f"--out '{args.out}' cannot be written ({reason}); choose another place.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drorae", description="Depth-routed representation autoencoders.")
    parser.add_argument("--version", action="version", version=f"drorae {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="folder or Hub id (id@revision); RAE and adapters too (default: %(default)s)",
    )
    common.add_argument(
        "--size", type=int, help=f"side of the central square in pixels (default: {SIDE}, or all that the model takes)"
    )
    common.add_argument("--whole", action="store_true", help="all of the picture, with about SIZE x SIZE pixels")

    command = commands.add_parser(
        "reconstruct", parents=[common], help="rebuild pictures from the last layer and from all layers"
    )
    command.add_argument("images", nargs="+", type=picture_path, metavar="IMAGE", help="pictures to read")
    command.add_argument("--out", type=Path, required=True, help="folder for the pictures (PNG)")
    command.add_argument("--json", action="store_true", help="print one JSON object per picture instead of a table")
    command.set_defaults(run=_reconstruct)

    command = commands.add_parser("routing", parents=[common], help="save the routing weight of every layer and token")
    command.add_argument("image", type=picture_path, metavar="IMAGE", help="picture to read")
    command.add_argument("--out", type=Path, required=True, help="file to write (.npz)")
    command.add_argument("--json", action="store_true", help="print everything as JSON instead of a sentence")
    command.set_defaults(run=_routing)

    command = commands.add_parser("intervene", parents=[common], help="rebuild a picture with other layers or strength")
    command.add_argument("image", type=picture_path, metavar="IMAGE", help="picture to read")
    layers = command.add_mutually_exclusive_group()
    layers.add_argument("--layers", type=int, nargs="+", help="numbers, from 1, of the layers that stay in the sum")
    layers.add_argument("--without", type=int, nargs="+", help="numbers of the layers that are left out")
    command.add_argument("--beta", type=float, help="strength of the correction, 0 to 1 (default: as trained)")
    command.add_argument("--tokens", type=int, nargs="+", help="change only these, numbered row by row from 0")
    command.add_argument("--out", type=Path, required=True, help="file to write (PNG, it holds the settings)")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a sentence")
    command.set_defaults(run=_intervene)

    command = commands.add_parser("report", parents=[common], help="one HTML file with everything the page shows")
    command.add_argument("image", type=picture_path, metavar="IMAGE", help="picture to read")
    command.add_argument(
        "--centre",
        type=float,
        nargs=2,
        default=(0.5, 0.5),
        metavar=("X", "Y"),
        help="of the square, as a share of the picture's width and height (default: 0.5 0.5)",
    )
    command.add_argument("--out", type=Path, required=True, help="file to write (.html)")
    command.set_defaults(run=_report)

    command = commands.add_parser("batch", parents=[common], help="a table of many pictures")
    command.add_argument("images", nargs="+", type=picture_path, metavar="IMAGE", help="pictures to read")
    command.add_argument("--out", type=Path, required=True, help="file to write (.csv)")
    command.add_argument("--json", action="store_true", help="print one JSON object per picture, too")
    command.set_defaults(run=_batch)

    command = commands.add_parser("bench", help="how fast this is here, as ratios against what one would otherwise use")
    command.add_argument("--only", nargs="+", choices=CONTESTS, metavar="NAME", help=f"of {', '.join(CONTESTS)}")
    command.add_argument("--rounds", type=int, default=7, help="how often each is timed (default: %(default)s)")
    command.add_argument("--device", help="cpu, cuda, ... (default: the best that is there)")
    command.add_argument("--json", action="store_true", help="print one JSON object per ratio instead of a table")
    command.set_defaults(run=_bench, out=None)

    command = commands.add_parser(
        "gallery", parents=[common], help="a static site: an index of pictures, and a report for each"
    )
    command.add_argument("images", nargs="+", type=picture_path, metavar="IMAGE", help="pictures to read")
    command.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="JSON: a sentence for each file name, what the picture shows and whose it is",
    )
    command.add_argument("--out", type=Path, required=True, help="folder for the site; any web server can show it")
    command.set_defaults(run=_gallery)

    command = commands.add_parser(
        "compare", parents=[common], help="one picture through several tokenizers, and how much each of them stores"
    )
    command.add_argument("image", type=picture_path, metavar="IMAGE", help="picture to read")
    command.add_argument(
        "--with",
        dest="tokenizers",
        nargs="+",
        action="extend",
        metavar="TOKENIZER",
        help="taef2, mean-K (of the model's last K layers), or any autoencoder of diffusers or of this package, by "
        "folder or Hub id (id@revision, id:subfolder)",
    )
    command.add_argument("--out", type=Path, help="folder for the pictures (PNG)")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    command.set_defaults(run=_compare)

    command = commands.add_parser("sample", help="make a picture of a class or of a text")
    command.add_argument("--generator", help="pipeline folder or Hub id (default: the embedded one)")
    subject = command.add_mutually_exclusive_group(required=True)
    subject.add_argument("--class", dest="label", help="name or number")
    subject.add_argument("--prompt", help="what to show")
    command.add_argument("--negative", default="", help="what to lead away from, with --prompt")
    command.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    command.add_argument("--steps", type=int, default=25, help="of the sampler (default: %(default)s)")
    command.add_argument(
        "--guidance",
        choices=GUIDANCE,
        help="kind of guidance (default: the generator's own, else autoguidance where there is a guide, else cfg)",
    )
    command.add_argument(
        "--scale",
        type=float,
        help="of guidance, 1 is none (default: the generator's own, else 1.5 for a class, 3 for a text)",
    )
    command.add_argument(
        "--decoder", choices=DECODERS, help="which decoder paints (default: finetuned, where there is one)"
    )
    command.add_argument("--out", type=Path, required=True, help="file to write (PNG, it holds the settings)")
    command.set_defaults(run=_sample)

    commands.add_parser("app", help="serve the explorer (drorae app --help lists its options)")
    return parser


def _misdirected(args: argparse.Namespace) -> str | None:
    """Error message if ``--out`` would overwrite an input, else ``None``. Nothing has been computed yet."""
    pictures = args.images if "images" in args else [args.image] if "image" in args else []
    if args.out is None:
        return None
    if args.run is _gallery:
        within = [path for path in pictures if args.out.resolve() in Path(os.path.realpath(path)).parents]
        if within:
            return f"--out '{args.out}' holds '{within[0].name}', which could be overwritten; choose another folder."
        return None
    if args.run in (_reconstruct, _compare):
        if any(_is_same(Path(os.path.realpath(path)).parent, args.out) for path in pictures):
            return f"--out '{args.out}' holds pictures to be read, which could be overwritten; choose another folder."
        return None
    if args.out.is_dir():
        return f"--out '{args.out}' is a folder; name a file in it."
    if any(_is_same(path, args.out) for path in pictures):
        return f"--out '{args.out}' is a picture to be read, which would be overwritten; choose another name."
    return None


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file or folder; not those that are missing, or that nobody may look at."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # ValueError: a name with a null character
        return False


def _load_model(name: str) -> AutoencoderDRoRAE:
    """A tokenizer of any kind, on the fastest device there is."""
    from drorae.devices import best_device
    from drorae.pretrained.adapter import load_tokenizer

    return load_tokenizer(name).to(best_device())


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


def _save_picture(picture: np.ndarray, path: str | Path) -> None:
    from PIL import Image

    with whole_file(path) as file:
        Image.fromarray(picture).save(file, "PNG")


def _reconstruct(args: argparse.Namespace) -> int:
    from drorae.explorer.explore import explore
    from drorae.images import ImageError, load_image

    model = _load_model(args.model)
    code = 0
    for path, stem in zip(args.images, _stems(args.images), strict=True):
        try:
            picture = load_image(path, str(path))
            result = explore(picture, model, interventions=False, size=args.size, whole=args.whole)
        except ImageError as error:  # the other pictures are still worth doing
            code = _fail(str(error))
            continue
        args.out.mkdir(parents=True, exist_ok=True)
        files = {"original": args.out / f"{stem}-original.png"}
        _save_picture(result.original, files["original"])
        for name, picture in result.pictures.items():
            files[name] = args.out / f"{stem}-{name}.png"
            _save_picture(picture, files[name])
        if args.json:
            print(json.dumps(_as_json(path, result, files)), flush=True)
        else:
            _print_table(path, result)
    return code


def size_of(picture: np.ndarray) -> str:
    """Width and height of a picture (H, W, 3), to be read."""
    height, width, _ = picture.shape
    return f"{width} x {height} px"


def _stems(paths: list[Path]) -> list[str]:
    """File stems, numbered where two pictures would overwrite each other."""
    stems: list[str] = []
    for path in paths:
        numbered = (f"{path.stem}-{number}" for number in itertools.count(2))
        stems.append(next(stem for stem in itertools.chain([path.stem], numbered) if stem not in stems))
    return stems


def _as_json(path: Path, result: Exploration, files: dict[str, Path]) -> dict:
    from drorae.explorer.answers import reconstruction_answer

    row = {"image": str(path), **reconstruction_answer(result), "original": {}}
    for name, file in files.items():
        row[name] |= {"file": str(file)}
    return row


def _print_table(path: Path, result: Exploration) -> None:
    from drorae.explorer.explore import ROUTES

    print(f"{path}  ({size_of(result.original)}, {result.seconds:.2f} s)")
    for route in ROUTES:
        if route.name in result.metrics:
            numbers = result.metrics[route.name]
            print(f"  {route.name:8}{numbers['psnr']:7.2f} dB  SSIM {numbers['ssim']:.3f}  {route.explanation}")


def _routing(args: argparse.Namespace) -> int:
    import numpy as np

    from drorae.explorer.answers import routing_answer
    from drorae.explorer.explore import explore
    from drorae.images import load_image

    model = _load_model(args.model)
    picture = load_image(args.image, str(args.image))
    result = explore(picture, model, interventions=False, size=args.size, whole=args.whole)
    if result.weights is None:
        return _fail(f"'{args.model}' has no fusion, so there is no routing; use a model with fusion.")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # through a handle, so that NumPy does not append .npz to the name that was asked for
    with whole_file(args.out) as file:
        np.savez_compressed(
            file,
            weights=result.weights,
            shares=result.shares,
            grid=np.array(result.grid_size),
            layers=np.arange(1, result.num_layers + 1),
        )
    if args.json:
        print(json.dumps(routing_answer(result)))
        return 0
    rows, columns = result.grid_size
    shape = f"weights {result.weights.shape} (tokens, layers), grid {rows} x {columns} (rows, columns)"
    print(f"{args.out}: {shape}, {size_of(result.original)}")
    return 0


def _intervene(args: argparse.Namespace) -> int:
    from PIL import Image

    from drorae.explorer.answers import intervention_answer
    from drorae.explorer.explore import intervene
    from drorae.explorer.interventions import Intervention
    from drorae.images import load_image, png_with_settings

    model = _load_model(args.model)
    layers = args.layers
    if args.without is not None:
        Intervention(tuple(args.without)).check(model.encoder.num_layers)
        layers = [n for n in range(1, model.encoder.num_layers + 1) if n not in args.without]
    as_tuple = [None if values is None else tuple(values) for values in (layers, args.tokens)]
    intervention = Intervention(as_tuple[0], args.beta, as_tuple[1])
    frame = intervene(load_image(args.image, str(args.image)), model, intervention, args.size, args.whole)
    settings = {"model": args.model, "layers": layers, "beta": args.beta, "tokens": args.tokens}
    settings |= {"size": args.size, "whole": args.whole or None}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in settings.items() if value is not None}
    _write(args.out, png_with_settings(Image.fromarray(frame.picture), kept))
    if args.json:
        print(json.dumps({"image": str(args.image), **settings, **intervention_answer(frame), "file": str(args.out)}))
    else:
        print(
            f"{args.out}: {size_of(frame.picture)}, {frame.metrics['psnr']:.2f} dB, SSIM {frame.metrics['ssim']:.3f}; "
            f"{STANDING[frame.compatibility.verdict]}"
        )
    return 0


def _report(args: argparse.Namespace) -> int:
    from drorae.explorer.reading import Reading
    from drorae.images import open_photo
    from drorae.viewers.report import report

    model = _load_model(args.model)
    reading = Reading(open_photo(args.image, str(args.image)), model, args.size, args.whole, args.centre)
    text = report(reading, args.model, str(args.image))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    _write(args.out, text.encode("utf-8", ESCAPED))
    shown = size_of(reading.routes.original)
    print(f"{args.out}: {shown}, {len(text) / 2**20:.1f} MiB, to be opened in any browser")
    return 0


def _gallery(args: argparse.Namespace) -> int:
    from tqdm.auto import tqdm

    from drorae.explorer.batch import distinct_names
    from drorae.explorer.reading import Reading
    from drorae.images import ImageError, open_photo
    from drorae.viewers import gallery
    from drorae.viewers.report import model_facts

    captions = _read_captions(args.captions)
    unknown = sorted(set(captions) - {path.name for path in args.images})
    if unknown:
        return _fail(f"--captions '{args.captions}' speaks of '{unknown[0]}', which is not among the pictures.")
    model = _load_model(args.model)
    names = distinct_names(args.images)
    entries, bad = [], []
    (args.out / "photos").mkdir(parents=True, exist_ok=True)
    (args.out / "thumbnails").mkdir(exist_ok=True)
    told = zip(args.images, names, gallery.slugs(names), strict=True)
    for path, name, slug in tqdm(list(told), disable=None):
        try:
            reading = Reading(open_photo(path, str(path)), model, args.size, args.whole)
            each = gallery.entry(reading, args.model, str(path), slug, name, captions.get(path.name, ""))
        except ImageError as error:  # the other pictures are still worth doing
            bad.append(str(error))
            continue
        (args.out / "photos" / f"{slug}.html").write_text(each.report, encoding="utf-8", errors=ESCAPED)
        entries.append(each)
    if not entries:
        return _fail("\n".join(bad))
    facts = model_facts(model, args.model)
    for name, content in gallery.files(entries, facts).items():
        (args.out / name).write_bytes(content)
    largest = max((args.out / "photos" / f"{each.slug}.html").stat().st_size for each in entries)
    print(f"{args.out / 'index.html'}: {gallery.summary(entries)}; reports of at most {largest / 1e6:.2f} MB")
    return _fail("\n".join(bad)) if bad else 0


def _read_captions(path: Path | None) -> dict[str, str]:
    """Sentences by file name.

    Raises:
        DRoRAEError: the file cannot be read, or holds something else.
    """
    if path is None:
        return {}
    try:
        captions = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DRoRAEError(f"--captions '{path}' cannot be read ({error.strerror}).") from None
    except ValueError:  # not JSON, or not UTF-8
        captions = None
    if not isinstance(captions, dict) or not all(isinstance(each, str) for each in captions.values()):
        raise DRoRAEError(f'--captions \'{path}\' must be JSON of sentences by file name: {{"cat.jpg": "A cat"}}.')
    return captions


def _batch(args: argparse.Namespace) -> int:
    import numpy as np
    from tqdm.auto import tqdm

    from drorae.explorer.answers import batch_answer
    from drorae.explorer.batch import explore_batch, to_csv

    model = _load_model(args.model)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows, stopped = [], False
    try:
        with tqdm(total=len(args.images), disable=None) as progress:
            for row in explore_batch(args.images, model, args.size, args.whole):
                rows.append(row)
                progress.update()
    except KeyboardInterrupt:
        if not rows:
            raise
        stopped = True
    _write(args.out, to_csv(rows).encode("utf-8", ESCAPED))
    for row in rows if args.json else ():
        print(json.dumps(batch_answer(row)))
    gains = [row.gain for row in rows if row.gain is not None]
    mean = f", mean gain {np.mean(gains):+.2f} dB" if gains else ""
    sizes = [f"{row.width} x {row.height} px" for row in rows if row.error is None]
    size = f" of {sizes[0]}" if len(set(sizes)) == 1 else ""  # else the table has them
    print(f"{args.out}: {count_of(len(sizes), 'picture')}{size}{mean}")
    bad = [row.error for row in rows if row.error is not None]
    code = _fail("\n".join(bad)) if bad else 0
    if stopped:
        _fail(f"Stopped after {len(rows)} of {len(args.images)} pictures; '{args.out}' has their rows.")
    return INTERRUPTED if stopped else code


def _compare(args: argparse.Namespace) -> int:
    from drorae.explorer.answers import column_answer
    from drorae.explorer.explore import explore, open_picture
    from drorae.explorer.tokenizers import find_tokenizer, measure_tokenizer, route_columns
    from drorae.images import load_image
    from drorae.pretrained.autoencoders import licence_of

    model, licence, code = _load_model(args.model), licence_of(args.model), 0
    picture = load_image(args.image, str(args.image))
    result = explore(picture, model, interventions=False, size=args.size, whole=args.whole)
    images = open_picture(picture, model, args.size, args.whole)
    columns = route_columns(result, model, licence)
    for name in dict.fromkeys(args.tokenizers or ()):
        try:
            columns.append(measure_tokenizer(images, find_tokenizer(name, model, licence)))
        except DRoRAEError as error:  # the others are still worth doing
            code = _fail(str(error))
    height, width, _ = result.original.shape
    answers = [column_answer(column) for column in columns]
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        _save_picture(result.original, args.out / f"{args.image.stem}-original.png")
        for number, (column, answer) in enumerate(zip(columns, answers, strict=True), 1):
            title = re.sub(r"[^\w.]+", "-", column.title)
            answer["file"] = str(args.out / f"{args.image.stem}-{number}-{title}.png")
            _save_picture(column.picture, answer["file"])
    if args.json:
        print(json.dumps({"image": str(args.image), "width": width, "height": height, "columns": answers}))
        return code
    print(f"{args.image}  ({width} x {height} px, {3 * width * height:,} numbers)")
    for column in columns:
        size = " x ".join(map(str, column.latent))
        print(
            f"  {column.title:34}{column.metrics['psnr']:6.2f} dB  SSIM {column.metrics['ssim']:.3f}  "
            f"MAE {column.metrics['mae']:5.2f}  latent {size:13} {column.stored:>9,} numbers, 1/{column.ratio:.1f}  "
            f"encoder: {column.encoder}; decoder: {column.decoder}; licence: {column.licence or 'not stated'}"
        )
    return code


def _bench(args: argparse.Namespace) -> int:
    from drorae.bench.report import print_ratios

    if args.rounds < 1:
        return _fail(f"--rounds must be at least 1, not {args.rounds}.")
    print_ratios(args.only, args.rounds, args.device, args.json)
    return 0


def _sample(args: argparse.Namespace) -> int:
    if args.negative and args.prompt is None:
        return _fail("--negative leads away from a text; use it with --prompt, not with --class.")
    if args.guidance == "none" and args.scale is not None:
        return _fail(f"--scale {args.scale:g} has nothing to act on with --guidance none; leave one of them out.")
    from drorae.devices import best_device
    from drorae.explorer.sampling import class_name, decoder_names, usual_guidance
    from drorae.images import png_with_settings
    from drorae.pipelines.class_to_image import DRoRAEClassPipeline
    from drorae.pipelines.text_to_image import DRoRAETextPipeline

    started = time.perf_counter()
    name = args.generator or (DEFAULT_GENERATOR if args.prompt is None else DEFAULT_TEXT_GENERATOR)
    if args.prompt is None:
        pipeline = DRoRAEClassPipeline.from_pretrained(name).to(best_device())
        (number,) = pipeline.label_numbers(args.label)
        subject, about = number, {"class": class_name(pipeline, number)}
    else:
        pipeline = DRoRAETextPipeline.from_pretrained(name).to(best_device())
        subject, about = args.prompt, {"prompt": args.prompt}
    guidance, scale = usual_guidance(pipeline)
    guidance, scale = args.guidance or guidance, scale if args.scale is None else args.scale
    more = {"negative_prompt": args.negative} if args.prompt is not None and args.negative else {}
    images = pipeline(subject, args.steps, guidance, scale, seed=args.seed, decoder=args.decoder, **more).images
    settings = about | {"seed": args.seed, "steps": args.steps, "guidance": guidance}
    settings |= {"scale": scale} if guidance != "none" else {}
    settings |= {"negative": args.negative} if more else {}
    settings |= {"decoder": args.decoder or decoder_names(pipeline.autoencoder)[-1]}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    _write(args.out, png_with_settings(images[0], {"model": name, **settings}))
    listed = ", ".join(f"{key} {value}" for key, value in settings.items())
    print(f"{args.out}: {listed}, {time.perf_counter() - started:.1f} s")
    return 0


def _app(arguments: list[str]) -> int:
    missing = [name for name in ("gradio", "plotly") if find_spec(name) is None]
    if missing:
        return _fail(f"The explorer needs {' and '.join(missing)}; install it with: pip install 'drorae[ui]'")
    from drorae.ui.app import main as serve

    return serve(arguments)


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
