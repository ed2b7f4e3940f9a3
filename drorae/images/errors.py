"""What is wrong with a picture."""

from __future__ import annotations

from drorae.errors import DRoRAEError


class ImageError(DRoRAEError, ValueError):
    """A picture that cannot be used. The message is one sentence meant for the person who sent it."""
