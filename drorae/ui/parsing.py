"""Values from the page and from programs, as the library takes them; what does not fit is refused there, by name."""

from __future__ import annotations

from typing import Any

from drorae.explorer.interventions import Intervention, InterventionError


def as_int(value: Any) -> Any:
    """3.0 as 3; anything else is returned unchanged and rejected by validation."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def intervention_of(wish: dict[str, Any]) -> Intervention:
    """The intervention that the page or a program asked for; its numbers are checked when it is made.

    Args:
        wish: ``layers`` and ``tokens`` (lists) and ``beta``, each optional.

    Raises:
        InterventionError: something else where a list belongs.
    """
    lists = {}
    for name in ("layers", "tokens"):
        value = wish.get(name)
        if value is not None and not isinstance(value, list):
            raise InterventionError(f"The {name} must be a list of numbers, not {value!r}.")
        lists[name] = None if value is None else tuple(value)
    return Intervention(beta=wish.get("beta"), **lists)
