"""What both pipelines share: their parts and whether they fit, seeds, the loop over the steps, decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, SchedulerMixin
from PIL import Image
from torch import Tensor

from drorae.checkpoints import CONFIG, INDEX, CheckpointError, resolve
from drorae.choices import GUIDANCE
from drorae.errors import DRoRAEError, count_of, reason_of
from drorae.images import to_uint8
from drorae.model_files import read_json
from drorae.models.autoencoder import AutoencoderDRoRAE
from drorae.models.denoiser import DiTDH
from drorae.pipelines import flow
from drorae.pipelines.guidance import INTERVAL, AutoGuidance, ClassifierFreeGuidance, Condition, Unguided
from drorae.pretrained.adapter import cast_weights, load_tokenizer
from drorae.rules import Rule, Rules, check_settings, maybe, number, one_of, rules_of, several, text, whole_number

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
MAX_STEPS, MAX_SCALE, MAX_PICTURES = 1000, 100.0, 256
MAX_SCHEDULER_ERROR = 1e-4  # of an exact velocity; a right one has rounding errors only
MAX_SEED = 2**32 - 1  # PyTorch's generator on the CPU takes no more bits
# numbers that a scheduler computes tables of, and such without a default that says what they are
SCHEDULER_SETTINGS: Rules = {
    "num_train_timesteps": whole_number(2, 10_000),
    "solver_order": whole_number(1, 3),
    "trained_betas": maybe(several(number(0, 1), most=10_000)),
    "shift_terminal": maybe(number(0, 1)),
    "timestep_type": maybe(text()),
    "sigma_min": maybe(number(0, 1000)),
    "sigma_max": maybe(number(0, 1000)),
    "variance_type": maybe(text()),
    "solver_p": maybe(text()),
    "lambda_min_clipped": Rule(lambda value: value == -math.inf or number(-1000, 0).holds(value), "a number up to 0"),
    "disable_corrector": several(whole_number(0, 10_000), most=10_000),
}


def component(library: str, *names: str) -> Rule:
    """What an index says of a part: the library and the class of it, the latter one of ``names`` where there are any.
    Neither is looked up."""

    def holds(value: Any) -> bool:
        if not isinstance(value, list) or len(value) != 2 or not all(isinstance(each, str) for each in value):
            return False
        return value[0].split(".")[0] == library and (not names or value[1] in names)

    return Rule(holds, f"a list of '{library}' and {' or '.join(names) or 'the name of a class'}")


def optional_component(part: Rule) -> Rule:
    """A component that may be missing."""
    return Rule(lambda value: value == [None, None] or part.holds(value), f"{part.said}, or null twice")


@dataclass(frozen=True)
class SamplerSettings:
    """How a picture is sampled from noise. The fields are arguments of a pipeline's call, which documents them."""

    num_inference_steps: int = 50
    guidance: str = "none"
    guidance_scale: float = 1.5
    guidance_interval: tuple[float, float] = INTERVAL
    decoder: str | None = None


class SamplingError(DRoRAEError, ValueError):
    """A request that cannot be sampled. The message names the value and what to use instead."""


class DRoRAEPipeline(DiffusionPipeline):
    """Noise, DiT^DH in the latent space, one of the two decoders (paper section 4.2).

    Args:
        autoencoder: decodes the latents; its statistics must be those that the denoiser was trained with.
        denoiser: the conditional network.
        scheduler: any flow-matching scheduler of diffusers; a fresh copy is made for every call.
        guide: the weaker network of AutoGuidance.
        autoencoder_name: a checkpoint from which :meth:`from_pretrained` takes the autoencoder when the pipeline's
            folder has none of its own.
        guidance, guidance_scale: the defaults of a call; saved with the pipeline.

    Raises:
        CheckpointError: the parts do not belong together.
    """

    SETTINGS: ClassVar[Rules] = {  # of the index of a pipeline's folder
        "scheduler": component("diffusers", *flow.SCHEDULERS),
        "denoiser": component("drorae", "DiTDH"),
        "guide": optional_component(component("drorae", "DiTDH")),
        "autoencoder": optional_component(component("drorae", "AutoencoderDRoRAE")),
        "autoencoder_name": maybe(text()),
        "guidance": maybe(one_of(*GUIDANCE)),
        "guidance_scale": maybe(number(0, MAX_SCALE)),
    }
    USUAL_GUIDANCE: ClassVar[tuple[str, float]] = ("none", 1.5)  # where nothing is saved
    model_cpu_offload_seq = "guide->denoiser->autoencoder"
    _optional_components: ClassVar = ["autoencoder", "guide"]
    _callback_tensor_inputs: ClassVar = ["latents"]

    def __init__(
        self,
        autoencoder: AutoencoderDRoRAE | None,
        denoiser: DiTDH,
        scheduler: SchedulerMixin,
        guide: DiTDH | None = None,
        autoencoder_name: str | None = None,
        guidance: str | None = None,
        guidance_scale: float | None = None,
    ):
        super().__init__()
        check_scheduler(scheduler)
        for name, network in (("denoiser", denoiser), ("guide", guide)):
            if network is not None and autoencoder is not None:
                check_latent(name, network, autoencoder)
        self.register_modules(autoencoder=autoencoder, denoiser=denoiser, scheduler=scheduler, guide=guide)
        self.register_to_config(autoencoder_name=autoencoder_name, guidance=guidance, guidance_scale=guidance_scale)
        if guidance is not None and guidance not in GUIDANCE:
            raise CheckpointError(f"The pipeline's guidance is one of {', '.join(GUIDANCE)}, not {guidance!r:.40}.")
        if guidance_scale is not None and not (_is_number(guidance_scale) and 0 <= guidance_scale <= MAX_SCALE):
            wrong = f"{guidance_scale!r:.40}"
            raise CheckpointError(f"The pipeline's guidance scale is from 0 to {MAX_SCALE:g}, not {wrong}.")
        for name, part in (("autoencoder", autoencoder), ("denoiser", denoiser), ("guide", guide)):
            if part is not None:  # where its class is imported from, wherever the module lies
                self.register_to_config(**{name: ("drorae", type(part).__name__)})
        self._interrupt = False

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        revision: str | None = None,
        torch_dtype: torch.dtype = torch.float32,
        autoencoder: AutoencoderDRoRAE | None = None,
        variant: str | None = None,
    ) -> Self:
        """Load a pipeline's folder, a bundled one (``"assets/drorae-tiny-class"``) or a Hub repository, strictly.

        Args:
            autoencoder: one that is there already, to be used in place of the saved or named one.
            variant: as ``save_pretrained`` was given; the only one there is when ``None`` and all are saved so.

        Raises:
            CheckpointError: what is missing, damaged or does not belong together.
        """
        folder = resolve(name, revision)
        parts, index = cls.load_parts(folder, torch_dtype, autoencoder, variant)
        return cls(**parts, **cls.load_own_parts(folder, index, torch_dtype, variant))

    @classmethod
    def load_own_parts(
        cls, folder: Path, index: dict[str, Any], torch_dtype: torch.dtype, variant: str | None
    ) -> dict[str, Any]:
        """What the constructor of this kind of pipeline takes beside the shared parts, from ``folder`` and its index.

        Raises:
            CheckpointError: what is missing or damaged.
        """
        return {}

    @classmethod
    def load_parts(
        cls,
        folder: Path,
        torch_dtype: torch.dtype,
        autoencoder: AutoencoderDRoRAE | None,
        variant: str | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The shared parts of a pipeline saved in ``folder``, strictly, and its index.

        Raises:
            CheckpointError: what is missing, damaged or could not be fetched.
        """
        if not (folder / INDEX).is_file() and (folder / CONFIG).is_file():
            raise CheckpointError(f"'{folder}' holds a single model, not a pipeline; give the folder of a pipeline.")
        try:
            index = read_json(folder / INDEX, "an index of a pipeline")
        except CheckpointError as error:
            raise CheckpointError(f"'{folder}' holds no readable pipeline: {error}") from error
        if index.get("_class_name") != cls.__name__:
            raise CheckpointError(f"'{folder}' holds the class {index.get('_class_name')!s:.80}, not {cls.__name__}.")
        check_settings(index, cls.SETTINGS, folder / INDEX, needed=["scheduler", "denoiser"])
        scheduler = load_scheduler(folder, index["scheduler"][1])
        has_guide = index.get("guide", [None])[0] is not None
        parts = {name: index.get(name) for name in ("autoencoder_name", "guidance", "guidance_scale")}
        parts["scheduler"] = scheduler
        parts["denoiser"] = DiTDH.from_pretrained(folder / "denoiser", torch_dtype=torch_dtype, variant=variant)
        if has_guide:
            parts["guide"] = DiTDH.from_pretrained(folder / "guide", torch_dtype=torch_dtype, variant=variant)
        if autoencoder is None and (folder / "autoencoder").is_dir():
            autoencoder = cast_weights(load_tokenizer(folder / "autoencoder", variant), torch_dtype)
        elif autoencoder is None:
            if not parts["autoencoder_name"]:
                raise CheckpointError(f"'{folder}' has no autoencoder and names none; pass one as autoencoder=.")
            autoencoder = cast_weights(load_tokenizer(parts["autoencoder_name"]), torch_dtype)
        return parts | {"autoencoder": autoencoder}, index

    def choose_guidance(self, guidance: str | None = None, scale: float | None = None) -> tuple[str, float]:
        """Guidance and scale, the pipeline's own for those that are ``None``."""
        usual, strength = self.config.guidance or self.USUAL_GUIDANCE[0], self.config.guidance_scale
        strength = self.USUAL_GUIDANCE[1] if strength is None else strength
        return usual if guidance is None else guidance, strength if scale is None else scale

    def follow(
        self,
        condition: Condition,
        unconditional: Condition,
        noise: Tensor,
        settings: SamplerSettings,
        begin: int = 0,
    ) -> Generator[flow.Step, Tensor | None, None]:
        """The steps from noise (B, C, h, w) to data under a condition. All arguments have been checked.

        ``begin`` is the first step to take (:func:`flow.first_step`); ``noise`` is then what is at its time.
        """
        device = self._execution_device
        scale, interval = settings.guidance_scale, settings.guidance_interval
        velocity: flow.Velocity
        if settings.guidance == "cfg":
            velocity = ClassifierFreeGuidance(self.denoiser, condition, unconditional, scale, interval)
        elif settings.guidance == "autoguidance":
            velocity = AutoGuidance(self.denoiser, self.guide, condition, scale, interval)
        else:
            velocity = Unguided(self.denoiser, condition)
        scheduler = flow.start(self.scheduler, settings.num_inference_steps, device, begin)
        return flow.sample(velocity, noise.to(device), scheduler, begin)

    def finish(
        self,
        loop: Generator[flow.Step, Tensor | None, None],
        decoder: str | None,
        output_type: str,
        return_dict: bool,
        callback: Callable[..., dict[str, Tensor] | None] | None,
        tensor_inputs: Sequence[str],
    ) -> ImagePipelineOutput | tuple:
        """Go through all steps, telling the callback of each, and decode what they arrive at.

        Raises:
            SamplingError: an unknown output type or callback tensor, or what the first step of the loop raises.
        """
        if output_type not in OUTPUT_TYPES:
            raise SamplingError(f"output_type {output_type!r} is not one of {', '.join(OUTPUT_TYPES)}.")
        if unknown := set(tensor_inputs) - set(self._callback_tensor_inputs):
            raise SamplingError(f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; there is only 'latents'.")
        self._interrupt = False
        step = next(loop)
        with self.progress_bar(total=step.count) as bar:
            while True:
                bar.update()
                changed = None
                if callback is not None:
                    values = dict.fromkeys(tensor_inputs, step.latents)
                    returned = callback(self, step.index, torch.tensor(1000 * step.time), values)
                    changed = (returned or {}).get("latents")
                if self._interrupt:
                    result = step.clean
                    break
                result = step.latents if changed is None else changed
                try:
                    step = loop.send(changed)
                except StopIteration:
                    break
        images = self.decode(result, decoder, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @torch.no_grad()
    def decode(self, latents: Tensor, decoder: str | None = None, output_type: str = "pil") -> Any:
        """Latents (B, C, h, w) to pictures, see ``output_type`` of a call."""
        if output_type == "latent":
            return latents
        images = self.autoencoder.decode(latents.to(self.autoencoder.dtype), decoder=decoder).sample
        if output_type == "pil":
            return [Image.fromarray(picture) for picture in to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()]
        images = images.float().clamp(0, 1)
        return images if output_type == "pt" else images.permute(0, 2, 3, 1).cpu().numpy()

    def check(self, settings: SamplerSettings) -> None:
        """Refuse settings that cannot give a picture.

        Raises:
            SamplingError: naming the value and what to use.
        """
        steps, interval = settings.num_inference_steps, settings.guidance_interval
        guidance, scale = settings.guidance, settings.guidance_scale
        if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or not 1 <= steps <= MAX_STEPS:
            raise SamplingError(f"num_inference_steps is a whole number from 1 to {MAX_STEPS}, not {steps!r}.")
        if guidance not in GUIDANCE:
            raise SamplingError(f"guidance is one of {', '.join(map(repr, GUIDANCE))}, not {guidance!r}.")
        if not _is_number(scale) or not 0 <= scale <= MAX_SCALE:
            raise SamplingError(f"guidance_scale is a number from 0 to {MAX_SCALE:g}, not {scale!r}; 1 means none.")
        if (
            not isinstance(interval, (list, tuple))
            or len(interval) != 2
            or not all(map(_is_number, interval))
            or not 0 <= interval[0] <= interval[1] <= 1
        ):
            raise SamplingError(f"guidance_interval is two times (from, to) in [0, 1], not {interval!r}.")
        if guidance == "autoguidance" and self.guide is None:
            raise SamplingError("This pipeline has no guide, so there is no autoguidance; use 'cfg' or 'none'.")
        try:
            self.autoencoder.get_decoder(settings.decoder)
        except ValueError as error:
            raise SamplingError(f"{error}.") from error

    def noise(
        self,
        count: int,
        seed: int | Sequence[int] | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        latents: Tensor | None,
    ) -> Tensor:
        """What sampling starts from, (count, C, h, w) fp32; see the arguments of a call.

        Raises:
            SamplingError: seeds, generators or latents that do not fit the number of pictures, or are not usable.
        """
        size = self.denoiser.config.sample_size
        shape = (self.denoiser.config.in_channels, size, size)
        if sum(given is not None for given in (seed, generator, latents)) > 1:
            raise SamplingError("Give one of seed, generator and latents, not several.")
        if latents is not None:
            if tuple(latents.shape) != (count, *shape) or not latents.isfinite().all():
                raise SamplingError(f"latents must be finite numbers of shape {(count, *shape)}.")
            return latents.float()
        if generator is not None:
            generators = [generator] * count if isinstance(generator, torch.Generator) else list(generator)
            if len(generators) != count:
                given, wanted = count_of(len(generators), "generator"), count_of(count, "picture")
                raise SamplingError(f"{given} for {wanted}; give one, or one for each.")
        else:
            generators = [torch.Generator().manual_seed(value) for value in picture_seeds(seed, count)]
        return flow.draw_noise(generators, shape, self._execution_device)


def picture_seeds(seed: int | Sequence[int] | None, count: int) -> list[int]:
    """One seed per picture: those given, or counting up from the one given, or drawn.

    Raises:
        SamplingError: another number of seeds than pictures, or values that are not seeds.
    """
    if seed is None:
        return torch.randint(0, 2**31, (count,)).tolist()
    seeds = list(seed) if isinstance(seed, (list, tuple, range)) else []
    for value in seeds or [seed]:
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not 0 <= value <= MAX_SEED:
            raise SamplingError(f"A seed is a whole number from 0 to {MAX_SEED}, not {value!r}.")
    if isinstance(seed, (int, np.integer)):
        seeds = [seed + number for number in range(count)]
        if seeds[-1] > MAX_SEED:
            raise SamplingError(f"{count} seeds from {seed} on go beyond {MAX_SEED}; start lower.")
    if len(seeds) != count:
        raise SamplingError(
            f"{count_of(len(seeds), 'seed')} for {count_of(count, 'picture')}; give one, or one for each."
        )
    return [int(value) for value in seeds]


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that is too large to be one
        return False


def check_scheduler(scheduler: SchedulerMixin) -> None:
    """Check that a scheduler is one of flow matching, that nothing but the number of steps sets its times, and that it
    follows the flow to its end at t = 0 without noise of its own: this is measured.

    Raises:
        CheckpointError: it is not such a scheduler.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if name not in flow.SCHEDULERS or not (name.startswith("FlowMatch") or config.get("use_flow_sigmas")):
        raise CheckpointError(
            f"{name} is not a flow-matching scheduler that ends at t = 0; use FlowMatchEulerDiscreteScheduler."
        )
    if config.get("use_dynamic_shifting"):
        raise CheckpointError(f"The {name} shifts its times dynamically; use one with a fixed shift.")
    fix = "use FlowMatchEulerDiscreteScheduler, or other settings of this one"
    try:
        error, difference = flow.measure_error(scheduler)
    except Exception as failure:  # somebody's class with somebody's settings: anything may be wrong
        raise CheckpointError(f"The {name} cannot sample ({reason_of(failure)}); {fix}.") from failure
    if not error < MAX_SCHEDULER_ERROR:  # also where it is not a number
        raise CheckpointError(
            f"With its settings the {name} does not lead to t = 0: it misses known data by {error:.2g}; {fix}."
        )
    if difference:
        raise CheckpointError(f"With its settings the {name} adds noise, so that a seed is not one picture; {fix}.")


def load_scheduler(folder: Path, name: str) -> SchedulerMixin:
    """The scheduler of a pipeline's folder, one of :data:`drorae.pipelines.flow.SCHEDULERS`.

    Raises:
        CheckpointError: settings that it does not have, or values that it cannot have.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    config = read_json(file, unbounded=("lambda_min_clipped",))
    if config.get("_class_name") not in (None, name):
        raise CheckpointError(
            f"'{file}' is of the class {config['_class_name']!s:.80}, and '{folder / INDEX}' names {name}."
        )
    kind = getattr(diffusers, name)
    check_settings(config, {**rules_of(kind), **SCHEDULER_SETTINGS}, file)
    try:
        return kind.from_config({key: value for key, value in config.items() if not key.startswith("_")})
    except Exception as error:  # somebody's settings: anything may be wrong
        raise CheckpointError(f"'{file}' describes no scheduler that can be built: {reason_of(error)}.") from error


def check_latent(name: str, network: DiTDH, autoencoder: AutoencoderDRoRAE) -> None:
    """Check that the network was trained on this autoencoder's latent.

    Raises:
        CheckpointError: another shape, or other statistics than those the network was trained with.
    """
    config = network.config
    wanted = (config.in_channels, config.sample_size, config.sample_size)
    found = (autoencoder.encoder.dim, autoencoder.grid_size, autoencoder.grid_size)
    if wanted != found:
        raise CheckpointError(
            f"The {name} makes latents of shape {wanted} and the tokenizer reads {found}; use the tokenizer it was "
            "trained with."
        )
    statistics = autoencoder.statistics
    fingerprint = None if statistics is None else statistics.fingerprint()
    if config.latent_fingerprint not in (None, fingerprint):
        raise CheckpointError(
            f"The {name} was trained with latent statistics {config.latent_fingerprint} and the tokenizer has "
            f"{fingerprint or 'none'}; use the tokenizer it was trained with."
        )
