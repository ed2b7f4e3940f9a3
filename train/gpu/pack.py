"""Sort what a leg needs into packets that are small enough to carry: ``python -m train.gpu.pack --to FOLDER``.

Every packet is a folder ``0``, ``1`` ... with the layout of the data's own folder: copied over one another on the other
machine, they are that folder again. Files are never cut; one that is larger than the limit is refused by name.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from drorae.errors import count_of
from train.engine.session import SHARED, amount_of, main_guard
from train.errors import RunError

FILES = ("photos20/*.parquet", "emoji/*.parquet", "weights/*.safetensors", "weights/*.json", "weights/minilm-l3/*")
NOT_FOR_TRAINING = ("mobilenet", "tf_efficientnet", "st_lpips", "taef2")  # judges and baselines stay at home


def sort_into_packets(sizes: Sequence[tuple[Path, int]], limit: int) -> list[list[Path]]:
    """Files to packets of at most ``limit`` bytes: the largest first, each into the first packet with room.

    Raises:
        RunError: a file is larger than a packet.
    """
    packets: list[list[Path]] = []
    room: list[int] = []
    for file, size in sorted(sizes, key=lambda pair: (-pair[1], pair[0])):
        if size > limit:
            raise RunError(f"'{file}' has {size / 2**20:.0f} MiB, more than a packet; give a larger --limit-mib.")
        place = next((i for i, free in enumerate(room) if size <= free), len(packets))
        if place == len(packets):
            packets.append([])
            room.append(limit)
        packets[place].append(file)
        room[place] -= size
    return packets


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of photos20, emoji and weights")
    parser.add_argument("--to", type=Path, required=True, help="folder for the packets; must not exist")
    parser.add_argument(
        "--limit-mib",
        type=amount_of("mebibytes", exclusive=True),
        default=58.0,
        help="size of a packet (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    if args.to.exists():
        raise RunError(f"--to '{args.to}' is there already; remove it or name another folder.")
    files = [file for pattern in FILES for file in sorted(args.data.glob(pattern))]
    files = [file for file in files if not file.name.startswith(NOT_FOR_TRAINING)]
    if not files:
        raise RunError(f"--data '{args.data}': there is nothing of {', '.join(FILES)} there.")
    packets = sort_into_packets([(file, file.stat().st_size) for file in files], int(args.limit_mib * 2**20))
    for number, packet in enumerate(packets):
        for file in packet:
            target = args.to / str(number) / file.relative_to(args.data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        total = sum(file.stat().st_size for file in packet)
        print(f"{args.to / str(number)}: {count_of(len(packet), 'file')}, {total / 2**20:.1f} MiB")


if __name__ == "__main__":
    main_guard(main)
