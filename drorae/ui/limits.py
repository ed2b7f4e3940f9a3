"""How much of a machine its visitors may take, from ``DRORAE_*`` variables of the environment: the one place that reads
them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from drorae.errors import DRoRAEError

QUEUES = "DRORAE_QUEUES"
VISITOR_QUEUES = "DRORAE_VISITOR_QUEUES"
PROXIES = "DRORAE_PROXIES"
BODY_MB = "DRORAE_BODY_MB"
UPLOAD_MB, UPLOAD_FILES = "DRORAE_UPLOAD_MB", "DRORAE_UPLOAD_FILES"
VISITOR_MB, VISITOR_FILES = "DRORAE_VISITOR_MB", "DRORAE_VISITOR_FILES"
TOKEN = "DRORAE_HOST_TOKEN"

EXPLORE, LAYERS, PHOTOS, GENERATE, TOKENIZE, LOAD, STUDY = LANES = (
    "explore",
    "layers",
    "photos",
    "generate",
    "tokenize",
    "load",
    "study",
)
SIZES = MappingProxyType(
    {EXPLORE: 60, LAYERS: 60, PHOTOS: 12, GENERATE: 20, TOKENIZE: 20, LOAD: 4, STUDY: 50},
)
# a page asks for each kind of thing about a photo once at a time: five in EXPLORE, three in LAYERS
SHARES = MappingProxyType({EXPLORE: 10, LAYERS: 5, PHOTOS: 2, GENERATE: 4, TOKENIZE: 3, LOAD: 2, STUDY: 4})
SHARED = 30  # visitors behind one address
# where the Hub's own proxies stand; what reaches them comes from elsewhere
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1")
MB = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What visitors may take.

    Attributes:
        sizes: questions that may wait in each lane.
        shares: of those, and of what is computed, how many may be of one session; of one address ``SHARED`` times that.
        proxies: addresses and networks whose word about the visitor's address is taken.
        body: bytes of a request that sends no files.
        upload: bytes of a request that sends files.
        upload_files: files of such a request.
        visitor: bytes that one address may send in an hour.
        visitor_files: files that one address may send in an hour.
        token: what opens the host's own view; empty where there is none.
    """

    sizes: Mapping[str, int] = field(default_factory=lambda: SIZES)
    shares: Mapping[str, int] = field(default_factory=lambda: SHARES)
    proxies: tuple[str, ...] = ()
    body: int = 16 * MB
    upload: int = 200 * MB
    upload_files: int = 50
    visitor: int = 6000 * MB
    visitor_files: int = 3000
    token: str = ""


def read_limits(environment: Mapping[str, str] | None = None) -> Limits:
    """The limits that the environment sets, and the usual ones for the rest.

    Raises:
        DRoRAEError: a value makes no sense, in one sentence that names the variable.
    """
    environment = os.environ if environment is None else environment
    usual = Limits()
    hub = PRIVATE if environment.get("SPACE_ID") else ()
    token = environment.get(TOKEN, "")
    if token and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise DRoRAEError(f"{TOKEN} takes at least 16 ASCII characters without spaces, so that nobody guesses it.")
    return Limits(
        numbers_by_lane(environment, QUEUES, SIZES),
        numbers_by_lane(environment, VISITOR_QUEUES, SHARES),
        tuple(dict.fromkeys((*networks(environment), *hub))),
        MB * positive_number(environment, BODY_MB, usual.body // MB),
        MB * positive_number(environment, UPLOAD_MB, usual.upload // MB),
        positive_number(environment, UPLOAD_FILES, usual.upload_files),
        MB * positive_number(environment, VISITOR_MB, usual.visitor // MB),
        positive_number(environment, VISITOR_FILES, usual.visitor_files),
        token,
    )


def positive_number(environment: Mapping[str, str], name: str, usual: int) -> int:
    """A whole number from 1.

    Raises:
        DRoRAEError: it is something else.
    """
    text = environment.get(name, "").strip()
    if not text:
        return usual
    if not is_count(text):
        raise DRoRAEError(f"{name} is a whole number from 1, not '{text[:40]}'.")
    return int(text)


def numbers_by_lane(environment: Mapping[str, str], name: str, usual: Mapping[str, int]) -> Mapping[str, int]:
    """Numbers by lane, written as ``explore=100 photos=5``; lanes that are not named keep their usual one.

    Raises:
        DRoRAEError: something else is written there.
    """
    numbers = dict(usual)
    for pair in environment.get(name, "").replace(",", " ").split():
        lane, _, text = pair.partition("=")
        if lane not in usual or not is_count(text):
            lanes = ", ".join(usual)
            raise DRoRAEError(
                f"{name} gives lanes whole numbers from 1, such as explore=100, not '{pair[:40]}'; lanes are {lanes}."
            )
        numbers[lane] = int(text)
    return MappingProxyType(numbers)


def is_count(text: str) -> bool:
    """Whether a text is a whole number from 1, in plain digits and not absurdly long."""
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0


def networks(environment: Mapping[str, str]) -> list[str]:
    """The addresses and networks of ``DRORAE_PROXIES``.

    Raises:
        DRoRAEError: one of them is neither.
    """
    named = environment.get(PROXIES, "").replace(",", " ").split()
    for each in named:
        try:
            ipaddress.ip_network(each)
        except ValueError:
            raise DRoRAEError(f"{PROXIES} lists addresses or networks such as 10.0.0.0/8, not '{each[:60]}'.") from None
    return named
