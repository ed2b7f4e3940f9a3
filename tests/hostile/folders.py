"""Every damaged or foreign folder of a model through the door that a page loads it by: refused in a sentence, or read
as the model that it was.

``python -m tests.hostile.folders`` takes all of them and prints, for each kind, how many were tried, refused and read,
and what was wrong: another error than a sentence, no end within :data:`SECONDS`, code that ran, or a model that was
built from a value that means nothing. It ends with 1 if anything was.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import struct
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before its library is imported: nothing here asks a network

import torch
from safetensors.torch import load_file, save_file

from drorae.checkpoints import CheckpointError
from tests.hostile.samples import DOORS, save_samples
from tests.hostile.tally import print_table

SECONDS = 30  # of the processor, that a folder may take
PATIENCE = 600  # seconds of the clock after which what does not compute has no end either
HUGE = 10**6
WEIGHTS = "diffusion_pytorch_model.safetensors"
PLANTED = "planted"  # the file that planted code writes
CODE = f"from pathlib import Path\nPath(__file__).with_name({PLANTED!r}).write_text('ran')\nclass Planted: pass\n"


class Case(NamedTuple):
    """A change to a valid folder.

    Attributes:
        kind: for the figures.
        door: of :data:`DOORS`.
        what: it is, in words.
        change: does it.
        may_read: whether a model may come of it: it means the same, or nobody uses it.
    """

    kind: str
    door: str
    what: str
    change: Callable[[Path], None]
    may_read: bool = False


# ---- values ---------------------------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "null": None,
    "list": [[1, "a"], {}],
    "NaN": float("nan"),
    "negative": -8,
    "huge": HUGE,
    "beyond": 10**40,
    "string": "os.system",
    "dict": {"a": {"b": [None]}},
    "true": True,
}
FILES = {
    "ours": ("config.json",),
    "rae": ("config.json",),
    "adapter": ("fusion_config.json",),
    "kl": ("config.json",),
    "class": ("model_index.json", "scheduler/scheduler_config.json", "denoiser/config.json"),
    "text": ("model_index.json", "text_encoder/config.json", "tokenizer/tokenizer_config.json"),
}
# what is only said: any text will do
SPOKEN = {"base_model", "base_revision", "autoencoder_name", "text_encoder_name", "labels"}
SPOKEN |= {"architectures", "transformers_version", "rope_parameters"}  # transformers fills in what these lack
MEANINGLESS = {"list", "NaN", "beyond", "string", "dict"}  # in the place of any setting
# settings of a scheduler or a text encoder whose other value is as good, and gives other pictures
CHOICES = {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "attention_bias", "tie_word_embeddings"}


def _settings(config: dict[str, Any], prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in config.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _settings(value, (*prefix, key))
        elif isinstance(value, list) and value and len(value) <= 3:
            yield (*prefix, key, 0)


def _set(file: str, place: tuple[Any, ...], value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / file).read_text(encoding="utf-8"))
        inner = config
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = value
        (folder / file).write_text(json.dumps(config), encoding="utf-8")

    return change


def values() -> Iterator[Case]:
    """Every setting of every configuration with every value of :data:`VALUES`."""
    with tempfile.TemporaryDirectory() as root:
        save_samples(Path(root))
        for door, files in FILES.items():
            for file in files:
                config = json.loads((Path(root) / door / file).read_text(encoding="utf-8"))
                for place in _settings(config):
                    for name, value in VALUES.items():
                        may = name not in MEANINGLESS or bool({*place} & SPOKEN) or str(place[0]).startswith("_")
                        may = (
                            may or file.startswith("tokenizer/") or (name in ("null", "true") and place[-1] in CHOICES)
                        )
                        what = f"{file}: {'.'.join(map(str, place))} = {name}"
                        yield Case(f"{name} in place of a value", door, what, _set(file, place, value), may)


# ---- text -----------------------------------------------------------------------------------------------------------

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "half": b'{"_class_name": "Auto',
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "zeros": bytes(1000),
    "deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a": ' * 50_000 + b"1" + b"}" * 50_000,
    "half of a character": b'{"_class_name": "\\ud800"}',
    "40 MB": b'{"a": "' + b"x" * 40_000_000 + b'"}',
    "a million keys": b"{" + b",".join(b'"%d": 0' % number for number in range(10**6)) + b"}",
    "a number of 10,000 digits": b'{"a": 1' + b"0" * 10_000 + b"}",
    "HTML": b"<html><body>404</body></html>",
    "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
}


def texts() -> Iterator[Case]:
    """Every configuration replaced by what is none."""
    for door, files in FILES.items():
        for file in files:
            for name, content in TEXTS.items():

                def write(folder: Path, file: str = file, content: bytes = content) -> None:
                    (folder / file).write_bytes(content)

                yield Case("another text in place of a configuration", door, f"{file}: {name}", write)


# ---- kinds and code -------------------------------------------------------------------------------------------------

CLASSES: list[Any] = [
    *("os.system", "DiffusionPipeline", "UNet2DModel", "logging", "__doc__", "AutoModel", "AutoencoderOobleck"),
    *("StableDiffusionPipeline", "DDIMScheduler", "BitsAndBytesConfig", "", "x" * 100_000, "..", "../planted"),
    *(["planted", "Planted"], {"a": 1}, 7, None),
]
SCHEDULER_ENTRIES: list[Any] = [
    *(["diffusers", "DiffusionPipeline"], ["diffusers", "AutoencoderKL"], ["diffusers", "__doc__"], ["os", "system"]),
    *(
        ["planted", "Planted"],
        ["scheduler.planted", "Planted"],
        ["diffusers", "DDIMScheduler"],
        ["diffusers", "logging"],
    ),
    *(
        ["diffusers", "DEISMultistepScheduler"],
        ["diffusers", "FlowMatchLCMScheduler"],
        ["diffusers", ["a"]],
        None,
        [],
        7,
    ),
    *("FlowMatchEulerDiscreteScheduler", ["diffusers"], [None, None], ["diffusers", None], {"diffusers": "x"}),
    *(["transformers", "AutoModel"], ["diffusers", "SchedulerMixin"], ["diffusers.schedulers", "KarrasVeScheduler"]),
]
AUTO_MAP = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForTextEncoding", "AutoTokenizer"), "planted.Planted")
REMOTE = {"auto_map": AUTO_MAP | {"AutoTokenizer": ["planted.Planted", None]}}


def _plant(folder: Path) -> None:
    for place in {folder, *(path.parent for path in folder.rglob("*.json"))}:
        for name in ("planted", "modeling_planted", "scheduler", "pipeline"):
            (place / f"{name}.py").write_text(CODE, encoding="utf-8")


def _also(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def _add(file: str, more: dict[str, Any]) -> Callable[[Path], None]:
    return _also(*(_set(file, (key,), value) for key, value in more.items()))


def code() -> Iterator[Case]:
    """Classes that are none of a model, and code beside the weights."""
    kind = "a class of its own choice"
    for door, files in FILES.items():
        for file in files:
            for name in CLASSES:
                # a fusion's configuration, and transformers', do not have it
                may = door == "adapter" or ("/" in file and not file.startswith(("scheduler", "denoiser")))
                may = may or (name is None and door in ("ours", "class", "text"))
                change = _also(_plant, _set(file, ("_class_name",), name))
                yield Case(kind, door, f"{file}: {name!r:.40}", change, may)
            for more in (REMOTE, {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}):
                may = file == "tokenizer/tokenizer_config.json" and "quantization_config" in more
                yield Case(kind, door, f"{file}: {next(iter(more))}", _also(_plant, _add(file, more)), may)
    for door in ("class", "text"):
        for entry in SCHEDULER_ENTRIES:
            change = _also(_plant, _set("model_index.json", ("scheduler",), entry))
            yield Case("a scheduler of its own choice", door, f"{entry!r:.60}", change)
            change = _also(_plant, _set("scheduler/scheduler_config.json", ("_class_name",), entry))
            may = entry is None or entry == "FlowMatchEulerDiscreteScheduler"
            yield Case("a scheduler of its own choice", door, f"in its own file: {entry!r:.60}", change, may)
        for entry in (["planted", "Planted"], ["diffusers", "StableDiffusionSafetyChecker"], ["os", "system"]):
            change = _also(_plant, _set("model_index.json", ("safety_checker",), entry))
            yield Case("a further component", door, f"{entry!r}", change)
    for attention in (
        "kernels-community/planted",
        "flash_attention_2",
        "planted:Planted",
        7,
        ["a"],
        {"a": "b"},
        "sdpa",
    ):
        for key in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"):
            change = _also(_plant, _set("text_encoder/config.json", (key,), attention))
            yield Case("attention of its own choice", "text", f"{key} = {attention!r:.40}", change, True)
    for kind_of in ("vit", "os.system", "timm_wrapper", "bert", "", None, 7, ["qwen3"], "llava", "x" * 10_000):
        change = _set("text_encoder/config.json", ("model_type",), kind_of)
        yield Case("another kind of text encoder", "text", f"{kind_of!r:.40}", change)
    for name in ("TokenizersBackend", "BertTokenizer", "planted.Planted", "os.system", 7, None, ["a"]):
        change = _also(_plant, _set("tokenizer/tokenizer_config.json", ("tokenizer_class",), name))
        yield Case("another kind of tokenizer", "text", f"{name!r}", change, True)


# ---- weights --------------------------------------------------------------------------------------------------------


class _Shell:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {PLANTED}",)


def _header(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _packed(header: Any, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _with_entry(**changes: Any) -> Callable[[bytes], bytes]:
    """The first tensor's entry in the header says something else."""

    def change(content: bytes) -> bytes:
        header, data = _header(content)
        name = next(key for key in header if key != "__metadata__")
        header[name] |= changes
        return _packed(header, data)

    return change


def _more_entries(**entries: Any) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        header, data = _header(content)
        return _packed(header | entries, data)

    return change


def _moved_entries(content: bytes) -> bytes:
    header, data = _header(content)
    for name, entry in header.items():
        if name != "__metadata__":
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            entry["data_offsets"] = [0, size]
    return _packed(header, data)


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "4 bytes": lambda content: content[:4],
    "8 bytes": lambda content: content[:8],
    "half a header": lambda content: content[:200],
    "a tenth": lambda content: content[: len(content) // 10],
    "half": lambda content: content[: len(content) // 2],
    "one byte less": lambda content: content[:-1],
    "one byte more": lambda content: content + b"\0",
    "a megabyte more": lambda content: content + bytes(10**6),
    "zeros": lambda content: bytes(len(content)),
    "ones": lambda content: b"\xff" * len(content),
    "a header of 2^63 bytes": lambda content: struct.pack("<Q", 2**63) + content[8:],
    "a header of 2^40 bytes": lambda content: struct.pack("<Q", 2**40) + content[8:],
    "a header of 90 MB": lambda content: struct.pack("<Q", 90_000_000) + content[8:],
    "a header without a length": lambda content: struct.pack("<Q", 0) + content[8:],
    "a header of one byte": lambda content: _packed(b"{", b""),
    "a header that is a list": lambda content: _packed([1, 2], b""),
    "a header that is deep": lambda content: _packed(b"[" * 100_000, b""),
    "a header that is not UTF-8": lambda content: _packed(b'{"\xff": 1}', b""),
    "a header of entries that are numbers": lambda content: _packed({"a": 1, "b": 2}, b""),
    "no tensors": lambda content: _packed({}, b""),
    "negative offsets": _with_entry(data_offsets=[-8, 0]),
    "offsets beyond the end": _with_entry(data_offsets=[0, 2**60]),
    "offsets the wrong way round": _with_entry(data_offsets=[64, 0]),
    "offsets that are texts": _with_entry(data_offsets=["0", "64"]),
    "three offsets": _with_entry(data_offsets=[0, 8, 16]),
    "a negative shape": _with_entry(shape=[-1, 4]),
    "a huge shape": _with_entry(shape=[2**40, 2**40]),
    "a shape that is a text": _with_entry(shape="48"),
    "a shape of a million axes": _with_entry(shape=[1] * 10**6),
    "a type that there is not": _with_entry(dtype="F128"),
    "a type that is a list": _with_entry(dtype=["F32"]),
    "8-bit floats": _with_entry(dtype="F8_E4M3"),
    "complex numbers": _with_entry(dtype="C64"),
    "whole numbers": _with_entry(dtype="I32"),
    "tensors on top of each other": _moved_entries,
    "a tensor that lies nowhere": _more_entries(planted={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}),
    "a hundred thousand empty tensors": _more_entries(
        **{f"x{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(100_000)}
    ),
    "a pickle": lambda content: pickle.dumps(_Shell()),
    "a zip": lambda content: b"PK\x03\x04" + bytes(1000),
    "an LFS pointer": lambda content: TEXTS["LFS"],
}


def _replaced(
    state: dict[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    name = max(state, key=lambda key: state[key].numel())
    return state | {name: change(state[name]).contiguous()}


def _poke(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.float().clone()
        tensor.view(-1)[tensor.numel() // 2] = value
        return tensor

    return change


TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "one NaN": lambda state: _replaced(state, _poke(float("nan"))),
    "one infinity": lambda state: _replaced(state, _poke(float("-inf"))),
    "all NaN": lambda state: {name: torch.full_like(value, float("nan")) for name, value in state.items()},
    "one missing": lambda state: dict(list(state.items())[1:]),
    "one more": lambda state: {**state, "planted.weight": torch.zeros(3)},
    "one transposed": lambda state: _replaced(state, lambda tensor: tensor.reshape(-1, 1)),
    "one longer": lambda state: _replaced(state, lambda tensor: torch.cat([tensor, tensor])),
    "one empty": lambda state: _replaced(state, lambda tensor: tensor[:0]),
    "one of whole numbers": lambda state: _replaced(state, torch.Tensor.long),
    "one of booleans": lambda state: _replaced(state, torch.Tensor.bool),
    "one of bytes": lambda state: _replaced(state, lambda tensor: tensor.to(torch.uint8)),
    "one complex": lambda state: _replaced(state, lambda tensor: tensor.to(torch.complex64)),
    "one of 8-bit floats": lambda state: _replaced(state, lambda tensor: tensor.to(torch.float8_e4m3fn)),
    "other names": lambda state: {f"planted.{name}": value for name, value in state.items()},
    "one name of 100,000 letters": lambda state: {**state, "x" * 100_000: torch.zeros(1)},
    "names with slashes": lambda state: {**state, "../../planted": torch.zeros(1)},
}
FILES_OF_WEIGHTS = {
    "ours": WEIGHTS,
    "rae": WEIGHTS,
    "adapter": "fusion.safetensors",
    "kl": WEIGHTS,
    "class": f"denoiser/{WEIGHTS}",
    "text": "text_encoder/model.safetensors",
}


def weights() -> Iterator[Case]:
    """Files of weights that are damaged, lie about themselves, or hold others."""
    for door, file in FILES_OF_WEIGHTS.items():
        for name, damage in BYTES.items():

            def change(folder: Path, file: str = file, damage: Callable[[bytes], bytes] = damage) -> None:
                (folder / file).write_bytes(damage((folder / file).read_bytes()))

            yield Case("bytes of the weights", door, name, change)
        for name, swap in TENSORS.items():

            def change_tensors(folder: Path, file: str = file, swap: Callable[[Any], Any] = swap) -> None:
                save_file(swap(load_file(folder / file)), folder / file, {"format": "pt"})

            # transformers leaves out what a text encoder does not have
            may = door == "text" and name in ("one more", "names with slashes")
            yield Case("tensors of the weights", door, name, change_tensors, may)


# ---- files ----------------------------------------------------------------------------------------------------------


def _link(target: str | Path) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return change


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to("/proc/self/mem")


PLACES: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "a folder": _folder,
    "a pipe": _pipe,
    "a link to itself": lambda path: _link(path)(path),
    "a link to nothing": _link("nowhere"),
    "a link to endless zeros": _link("/dev/zero"),
    "a link to endless noise": _link("/dev/urandom"),
    "a link to a terminal": _link("/dev/tty"),
    "a link to the list of users": _link("/etc/passwd"),
    "a link to this process": _link("/proc/self/environ"),
    "memory": _unreadable,
}
INDEXES: dict[str, Any] = {
    "outside": {"weight_map": {"a": "../other.safetensors"}},
    "absolute": {"weight_map": {"a": "/etc/passwd"}},
    "another kind of file": {"weight_map": {"a": "weights.bin"}},
    "the index itself": {"weight_map": {"a": f"{WEIGHTS}.index.json"}},
    "missing": {"weight_map": {"a": "a.safetensors"}},
    "empty": {"weight_map": {}},
    "a list": {"weight_map": ["a"]},
    "numbers": {"weight_map": {"a": 1}},
    "nulls": {"weight_map": {"a": None}},
    "of another kind": [],
    "no map": {"metadata": {}},
    "a name with a null": {"weight_map": {"a": "a\0.safetensors"}},
    "a long name": {"weight_map": {"a": "x" * 10_000 + ".safetensors"}},
    "a hundred thousand": {"weight_map": {str(number): f"{number}.safetensors" for number in range(100_000)}},
    "a Windows path": {"weight_map": {"a": "..\\other.safetensors"}},
}


def files() -> Iterator[Case]:
    """Other things in the place of files, and indexes of weights that lead elsewhere."""
    for door in FILES:
        for file in (*FILES[door], FILES_OF_WEIGHTS[door]):
            for name, place in PLACES.items():

                def change(folder: Path, file: str = file, place: Callable[[Path], None] = place) -> None:
                    place(folder / file)

                yield Case("something else in place of a file", door, f"{file}: {name}", change)
        if door == "adapter":
            continue
        for name, index in INDEXES.items():

            def write(folder: Path, door: str = door, index: Any = index) -> None:
                file = folder / FILES_OF_WEIGHTS[door]
                other = file.parent.parent / "other.safetensors"
                file.rename(other)
                (folder / f"{FILES_OF_WEIGHTS[door]}.index.json").write_text(json.dumps(index), encoding="utf-8")

            yield Case("an index of weights", door, name, write)


# ---- trying ---------------------------------------------------------------------------------------------------------


def corpus() -> list[Case]:
    """All of them, always the same."""
    return [*values(), *texts(), *code(), *weights(), *files()]


class NoEnd(BaseException):
    """A folder took too long."""


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*args: Any) -> None:
        raise NoEnd

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timers = ((signal.SIGPROF, signal.ITIMER_PROF, SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, PATIENCE))
    before = [signal.signal(number, ring) for number, *_ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


@torch.no_grad()
def result_of(door: str, model: Any) -> torch.Tensor:
    """What a model makes of one input, so that two can be compared."""
    if door in ("class", "text"):
        model.set_progress_bar_config(disable=True)
        subject: Any = {"class": 1, "text": "a red ball"}[door]
        return model(subject, num_inference_steps=2, seed=0, guidance="none", output_type="pt").images
    images = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    if door == "kl":
        return model.decode(model.encode(images).latent_dist.mode()).sample
    return model(images).sample


class Trial:
    """A place for folders, with the valid ones and what these give."""

    def __init__(self, root: Path) -> None:
        self.root = root
        save_samples(root / "valid")
        self.expected = {door: result_of(door, load(str(root / "valid" / door))) for door, load in DOORS.items()}

    def outcome(self, case: Case) -> tuple[str, str]:
        """ "read", "refused" or "wrong", and what was said."""
        folder = self.root / "try" / case.door
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(self.root / "valid" / case.door, folder)
        case.change(folder)
        try:
            with _alarm():
                found = result_of(case.door, DOORS[case.door](str(folder)))
        except CheckpointError as error:
            text = str(error)
            right = text.endswith(".") and "\n" not in text and len(text) < 2000
            result = ("refused" if right else "wrong"), text
        except NoEnd:
            result = "wrong", f"no end within {SECONDS} s"
        except BaseException as error:
            result = "wrong", f"{type(error).__name__}: {error}"
        else:
            same = found.shape == self.expected[case.door].shape and torch.equal(found, self.expected[case.door])
            result = (
                ("read", "") if case.may_read and same else ("wrong", f"was read, {'equal' if same else 'another'}")
            )
        planted = (
            [path for place in (self.root, Path.cwd()) for path in place.rglob(PLANTED)] if case.kind in CODED else []
        )
        for path in planted:
            path.unlink()
        return ("wrong", f"its code ran ({result[1]})") if planted else result


CODED = {"a class of its own choice", "a scheduler of its own choice", "a further component", "bytes of the weights"}


def main(arguments: list[str]) -> int:
    """All of them; or those whose kind, door or words contain what was given."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (6 * 10**9, resource.RLIM_INFINITY))  # what asks for more is wrong
    cases = [
        case
        for case in corpus()
        if not arguments or any(part in f"{case.kind}, {case.door}, {case.what}" for part in arguments)
    ]
    kinds = {case.kind: Counter() for case in cases}
    with tempfile.TemporaryDirectory() as root:
        trial = Trial(Path(root))
        for case in cases:
            result, said = trial.outcome(case)
            kinds[case.kind][result] += 1
            if result == "wrong":
                print(f"{case.kind}, {case.door}, {case.what}: {said:.300}", flush=True)
    return print_table(kinds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
