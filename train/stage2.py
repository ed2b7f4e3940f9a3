"""Train a denoiser: ``python -m train.stage2 --preset tiny --condition class``, its guide with ``--guide``, or
``--condition text``.

Flow matching on the latents of a frozen tokenizer (paper sections 4.2 and 4.3, with RAE's recipe). The latents are
computed once and kept under ``--out``/latents. Run the same command again to continue a run that was stopped. The
checkpoint is the folder of a pipeline: ``DRoRAEClassPipeline.from_pretrained`` or ``DRoRAETextPipeline``. ``--dry-run``
prints what would be done and what it needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator

from drorae import AutoencoderDRoRAE, DiTDH, DRoRAEClassPipeline, DRoRAETextPipeline
from drorae.checkpoints import module_hash
from drorae.pipelines.text_encoding import load_text_encoder, token_width
from drorae.pretrained.adapter import load_tokenizer
from train.data.captions import all_captions, captions_of
from train.data.held_out import ValidationPhotos
from train.data.latent_cache import (
    LatentPositions,
    cache_key,
    fits,
    load_cache,
    size_in_bytes,
    tokenizer_hash,
)
from train.data.positions import TrainingPositions
from train.data.sources import LABELS, class_names, load_photos
from train.data.stream import TrainingStream
from train.data.text_cache import load_features
from train.engine.dry_run import describe_denoiser
from train.engine.run_folder import CHECKPOINT
from train.engine.session import (
    ICONS,
    PHOTOS,
    add_data_arguments,
    add_dry_run_arguments,
    add_run_arguments,
    load_positions,
    load_validation,
    main_guard,
    number_of,
    train,
    with_arguments,
)
from train.engine.task import PeriodicMeasure
from train.errors import DataError, RunError
from train.measure.while_training import add_gfid_arguments, build_gfid
from train.presets import PRESETS
from train.settings import Stage2Preset
from train.tasks.conditions import ClassCondition, TextCondition
from train.tasks.generation import FlowMatching
from train.tasks.text_encoder import build_encoder, train_tokenizer

CONDITIONS = ("class", "text")
VALIDATION_PHOTOS = 256
DATA = {"class": [PHOTOS], "text": ICONS}


def resolve_tokenizer(args: argparse.Namespace, row: Stage2Preset) -> str:
    """The tokenizer of the command line, else the preset's: a finished run of ``--out``, or a checkpoint."""
    if args.tokenizer is not None:
        return args.tokenizer
    run = args.out / row.tokenizer / CHECKPOINT
    return str(run) if run.is_dir() else row.tokenizer


def build_denoiser(model: AutoencoderDRoRAE, row: Stage2Preset, **condition: int | None) -> DiTDH:
    """A fresh denoiser for the latents of ``model``; ``condition`` is ``num_classes`` or ``text_dim``."""
    torch.manual_seed(row.schedule.seed)
    return DiTDH(
        sample_size=model.grid_size,
        in_channels=model.encoder.dim,
        latent_fingerprint=None if model.statistics is None else model.statistics.fingerprint(),
        **{"num_classes": None, **condition},
        **row.denoiser,
    )


def class_condition(args: argparse.Namespace, model: AutoencoderDRoRAE, row: Stage2Preset) -> ClassCondition:
    """The classes of the training data, and a denoiser for them.

    Raises:
        DataError: it has none.
    """
    sources = [load_photos(path, "train", streaming=args.stream) for path in args.data]
    names = class_names(sources, args.classes)
    if not names:
        raise DataError(
            f"--data: the columns are {list(sources[0].features)}, and none has class numbers; they are looked for in "
            f"{', '.join(LABELS)}, or in the folders of train/class/picture.jpg."
        )
    return ClassCondition(build_denoiser(model, row, num_classes=len(names)), names)


def text_condition(args: argparse.Namespace, model: AutoencoderDRoRAE, row: Stage2Preset) -> TextCondition:
    """The preset's frozen text encoder, a folder in ``--weights`` or published, or a small one that is trained along,
    with a vocabulary learned from the captions."""
    text = row.text
    assert text is not None, "a row for texts says how they are encoded"
    name = text.encoder
    if name is not None:
        own = args.weights / name
        tokenizer, encoder = load_text_encoder(own if own.is_dir() else name)
        encoder.requires_grad_(False)
        name = None if own.is_dir() else name  # a folder of this machine is saved with the pipeline
    else:
        captions = all_captions([load_photos(path, "train") for path in args.data])
        tokenizer = train_tokenizer((caption for each in captions for caption in each), text.vocab_size)
        encoder = build_encoder(len(tokenizer), text.hidden_size, text.num_layers, text.max_tokens, row.schedule.seed)
    denoiser = build_denoiser(model, row, text_dim=token_width(encoder))
    trained = text.encoder is None
    return TextCondition(denoiser, tokenizer, encoder, text.max_tokens, name, text.examples, trained)


def start_from(name: str, condition: ClassCondition | TextCondition, guide: bool, model: AutoencoderDRoRAE) -> None:
    """Take the weights of a finished pipeline: its denoiser or its guide, and its text encoder where that is trained.

    Raises:
        CheckpointError: it cannot be loaded, or was trained on another latent than that of ``model``.
        RunError: it has another shape, other classes or another vocabulary.
    """
    kind = DRoRAEClassPipeline if isinstance(condition, ClassCondition) else DRoRAETextPipeline
    pipeline = kind.from_pretrained(name, autoencoder=model)
    source = pipeline.guide if guide else pipeline.denoiser
    if source is None:
        raise RunError(f"--start {name}: it has no guide to go on from.")
    pairs = [(source, condition.denoiser)]
    if isinstance(condition, ClassCondition):
        if list(pipeline.config.labels or ()) != condition.names:
            raise RunError(f"--start {name}: its classes are not those of --data.")
    elif condition.trained:
        if pipeline.tokenizer is None or pipeline.tokenizer.get_vocab() != condition.tokenizer.get_vocab():
            raise RunError(f"--start {name}: its vocabulary is not that of the captions of --data.")
        pairs.append((pipeline.text_encoder, condition.text_encoder))
    for old, new in pairs:
        shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (old, new)]
        if shapes[0] != shapes[1]:
            raise RunError(f"--start {name}: its network has another shape than the preset's.")
        new.load_state_dict(old.state_dict())


def load_latents(
    args: argparse.Namespace,
    model: AutoencoderDRoRAE,
    row: Stage2Preset,
    accelerator: Accelerator,
    fused: bool = True,
    captions: bool = False,
) -> LatentPositions | TrainingPositions | TrainingStream:
    """The training data: cached latents, or with ``--no-cache`` photos, which are encoded while training.

    Raises:
        RunError: the latents cannot be kept.
    """
    photos = load_positions(args, model.image_size, row.schedule, centre=True, captions=captions)
    if args.no_cache:
        return photos
    if not isinstance(photos, TrainingPositions):
        raise RunError("the latents of a stream cannot be kept; give --no-cache, or a copy of the data on this disk.")
    names = [Path(path).name for path in args.data]
    key = cache_key(model, photos, row.schedule.precision, fused, row.views)
    folder = args.out / "latents" / f"{'-'.join(names)}-{key}"
    if not folder.is_dir() and not fits(model, photos, folder, row.views):
        size = size_in_bytes(model, photos, row.views) / 2**30
        raise RunError(
            f"the latents take {size:.1f} GiB, over half of what is free at '{args.out}'; give --no-cache to compute "
            "them anew in every epoch, or another --out."
        )
    workers = max(2, row.schedule.workers)
    cache = load_cache(model, photos, folder, accelerator, fused=fused, workers=workers, views=row.views)
    return LatentPositions(*cache, photos.sources, row.schedule.seed, photos.captions)


def load_held_out_photos(
    args: argparse.Namespace, model: AutoencoderDRoRAE, condition: ClassCondition | TextCondition, say: Callable
) -> tuple[ValidationPhotos | None, bool]:
    """Held-out photos, where there are any, and whether their classes are those of the training data."""
    try:
        photos = load_validation(args, model.image_size, limit=VALIDATION_PHOTOS, crop="adm")
        if isinstance(condition, TextCondition):
            captions_of(photos.rows, "--validation")
            return photos, False
    except DataError as error:  # one's own folder may have nothing held out
        say(f"There will be no held-out loss: {error}")
        return None, False
    labelled = class_names([photos.rows], len(condition.names), "--validation") == condition.names
    if not labelled:
        say("The held-out photos have other classes; their loss is measured without labels.")
    return photos, labelled


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--preset",
        choices=[name for name, preset in PRESETS.items() if preset.stage2],
        required=True,
        help="preset whose recipe is followed",
    )
    parser.add_argument("--condition", choices=CONDITIONS, required=True, help="what the denoiser is conditioned on")
    parser.add_argument("--guide", action="store_true", help="train the weak network of AutoGuidance")
    parser.add_argument("--tokenizer", help="checkpoint or hub id to train upon (default: the preset's)")
    parser.add_argument("--start", help="pipeline (folder or hub id) whose denoiser to go on from (default: afresh)")
    parser.add_argument("--classes", type=number_of("classes"), help="number of classes, where the data does not say")
    parser.add_argument("--no-cache", action="store_true", help="compute the latents anew in every epoch")
    add_dry_run_arguments(parser)
    add_data_arguments(parser)
    add_run_arguments(parser)
    add_gfid_arguments(parser)
    parser.set_defaults(data=None, validation=None)
    args = parser.parse_args(argv)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, as RAE trains its denoisers
    if args.gfid_reference and (not args.gfid_every or args.condition != "class"):
        raise RunError("--gfid-reference is for --condition class with --gfid-every; add them, or leave it out.")
    args.data = args.data or DATA[args.condition]
    args.validation = args.validation or args.data[0]  # classes of other data would be other classes
    run = f"{args.condition}-guide" if args.guide else args.condition
    if run not in PRESETS[args.preset].stage2:
        raise RunError(f"preset '{args.preset}' has no run '{run}'; it has {', '.join(PRESETS[args.preset].stage2)}.")
    row = with_arguments(PRESETS[args.preset].stage2[run], args)
    if args.dry_run:
        print(describe_denoiser(args.preset, run, PRESETS[args.preset], row, args.processes))
        return
    name = resolve_tokenizer(args, row)
    model = load_tokenizer(name)
    if model.statistics is None:
        raise RunError(
            f"'{name}' has no latent statistics, which denoisers need; run python -m train.latent_stats on it."
        )
    condition = (class_condition if args.condition == "class" else text_condition)(args, model, row)

    def build(accelerator: Accelerator) -> FlowMatching:
        validation, labelled = load_held_out_photos(args, model, condition, accelerator.print)
        return FlowMatching(model, condition, row, model.statistics, validation, name, labelled=labelled)

    def load(task: FlowMatching, accelerator: Accelerator) -> LatentPositions | TrainingPositions | TrainingStream:
        positions = load_latents(args, task.model, row, accelerator, captions=condition.wants_captions)
        if isinstance(condition, TextCondition) and isinstance(positions, LatentPositions) and not condition.trained:
            texts = [text for each in positions.captions or () for text in each]
            encoder = condition.text_encoder.to(accelerator.device)
            condition.features = load_features(
                condition.tokenizer, encoder, condition.max_tokens, ["", *texts], args.out / "latents", accelerator
            )
        return positions

    def observe(task: FlowMatching, accelerator: Accelerator) -> PeriodicMeasure:
        return build_gfid(args, task.image_size, accelerator)

    if args.start:
        start_from(args.start, condition, args.guide, model)
    given = "".join(f" --{name} {value}" for name in ("tokenizer", "start") if (value := getattr(args, name)))
    command = f"train.stage2 --preset {args.preset} --condition {args.condition}{' --guide' * args.guide}{given}"
    shape = {key: value for key, value in condition.denoiser.config.items() if not key.startswith("_")}
    settings = {"denoiser": shape, "tokenizer": tokenizer_hash(model), "cached": not args.no_cache}
    settings |= {"classes": condition.names} if isinstance(condition, ClassCondition) else {}
    settings |= {"start": module_hash(condition.network)} if args.start else {}
    train(args, command, run, settings, row, build, load, observe if args.gfid_every else None)


if __name__ == "__main__":
    main_guard(main)
