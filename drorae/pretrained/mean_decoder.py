"""Decoders trained for the mean of a model's last layers, in a folder ``mean-K`` beside its weights.

RAEv2's idea deserves a decoder of its own. Beside it lies the decoder of RAE as it was after as many steps: the fair
comparison. Both are small, since encoder and everything else are the model's.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save_file

from drorae.checkpoints import CheckpointError, module_hash, read_config, read_weights
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.decoder import PixelDecoder
from drorae.rules import Rules, check_settings, text, whole_number

CONFIG, OWN, RAE = "config.json", "decoder.safetensors", "rae.safetensors"
SETTINGS: Rules = {
    "layers": whole_number(1, 1000),
    "steps": whole_number(0, 10**9),
    "command": text(10_000),
    "encoder": text(),
}


class MeanDecoders(NamedTuple):
    """Two decoders that were trained alike.

    Attributes:
        own: for the mean of the layers.
        rae: for the last layer, after as many steps; ``None`` where that was not kept.
        steps: steps of the training.
    """

    own: PixelDecoder
    rae: PixelDecoder | None
    steps: int


def save_mean_decoders(
    folder: Path, model: AutoencoderDRoRAE, layers: int, decoders: MeanDecoders, command: str
) -> None:
    """Write ``folder/mean-{layers}`` in half precision.

    Args:
        folder: folder of the model.
        command: that trained the decoder.
    """
    place = folder / f"mean-{layers}"
    place.mkdir(parents=True, exist_ok=True)
    for file, decoder in ((OWN, decoders.own), (RAE, decoders.rae)):
        (place / file).unlink(missing_ok=True)
        if decoder is not None:
            state = {name: value.detach().cpu().half().contiguous() for name, value in decoder.state_dict().items()}
            save_file(state, place / file)
    content = {"layers": layers, "steps": decoders.steps, "command": command, "encoder": module_hash(model.encoder)}
    (place / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_mean_decoders(model: AutoencoderDRoRAE, layers: int) -> MeanDecoders | None:
    """The decoders for the mean of the last ``layers`` of a model that was loaded from a folder, on its device;
    ``None`` where there are none.

    Raises:
        CheckpointError: they are damaged, or were trained on another encoder.
    """
    place = Path(model.config.get("_name_or_path") or "") / f"mean-{layers}"
    if not (place / OWN).is_file():
        return None
    about = read_config(place)
    check_settings(about, SETTINGS, place / CONFIG)
    if about.get("encoder") != module_hash(model.encoder):
        raise CheckpointError(f"The decoder in '{place}' belongs to another encoder; publish the model again.")

    def load(file: Path) -> PixelDecoder:
        decoder = copy.deepcopy(model.decoder)
        state = {name: value.float() for name, value in read_weights(file).items()}
        try:
            decoder.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"'{file}' is not a decoder of this model; publish the model again.") from error
        return decoder.to(model.device, model.dtype).eval().requires_grad_(False)

    rae = load(place / RAE) if (place / RAE).is_file() else None
    return MeanDecoders(load(place / OWN), rae, int(about.get("steps", 0)))
