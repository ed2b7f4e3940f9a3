"""What the settings of a configuration may be: their types and ranges, checked by name before anything is built."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from drorae.model_files import CheckpointError

COMMENTS = "_"  # what a key begins with that says how a configuration was written: ``_class_name``, ``_name_or_path``


class Rule(NamedTuple):
    """What a setting may be.

    Attributes:
        holds: whether a value keeps to it.
        said: the values that do, after "must be".
    """

    holds: Callable[[Any], bool]
    said: str


Rules = Mapping[str, Rule]


def whole_number(low: int, high: int) -> Rule:
    """A whole number."""
    return Rule(lambda value: type(value) is int and low <= value <= high, f"a whole number from {low:,} to {high:,}")


def number(low: float, high: float) -> Rule:
    """A finite number."""
    return Rule(
        lambda value: type(value) in (int, float) and math.isfinite(value) and low <= value <= high,
        f"a number from {low:g} to {high:g}",
    )


def flag() -> Rule:
    """Yes or no."""
    return Rule(lambda value: isinstance(value, bool), "true or false")


def text(longest: int = 300) -> Rule:
    """A text that is not empty."""
    return Rule(lambda value: isinstance(value, str) and 0 < len(value) <= longest, f"a text of 1 to {longest} letters")


def one_of(*values: str) -> Rule:
    """One of a few texts."""
    return Rule(lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}")


def several(rule: Rule, count: int | None = None, most: int = 100_000) -> Rule:
    """A list of values that keep to a rule: ``count`` of them, or up to ``most``."""

    def holds(value: Any) -> bool:
        if not isinstance(value, (list, tuple)) or len(value) > most or (count is not None and len(value) != count):
            return False
        return all(rule.holds(each) for each in value)

    return Rule(holds, f"a list of {'values' if count is None else count}, each {rule.said}")


def or_several(rule: Rule) -> Rule:
    """A value that keeps to a rule, or a list of such."""
    lists = several(rule)
    return Rule(lambda value: rule.holds(value) or lists.holds(value), f"{rule.said}, or a list of such")


def nested_numbers() -> Rule:
    """A finite number, or lists of them."""

    def holds(value: Any) -> bool:
        return all(map(holds, value)) if isinstance(value, (list, tuple)) else number(-1e9, 1e9).holds(value)

    return Rule(holds, "a number, or lists of numbers")


def maybe(rule: Rule) -> Rule:
    """A value that keeps to a rule, or none."""
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.said}, or null")


def settings(rules: Rules) -> Rule:
    """An object whose settings keep to rules, and that has no others."""
    return Rule(
        lambda value: isinstance(value, dict) and not any(True for _ in broken_rules(value, rules)),
        "an object of settings among " + ", ".join(rules),
    )


def rules_of(kind: type) -> Rules:
    """Rules for the arguments of a class of a library: of the type of their defaults, or what their annotation allows
    besides; sizes are not negative."""
    made = {}
    for name, argument in inspect.signature(kind.__init__).parameters.items():  # type: ignore[misc]
        rule = _rule_of(argument.default) if argument.default is not None else _rule_for(str(argument.annotation))
        if rule is not None:
            optional = any(word in str(argument.annotation) for word in ("None", "Optional"))
            made[name] = maybe(rule) if optional else rule
    return made


def _rule_for(annotation: str) -> Rule | None:
    """A rule for the types that an annotation names; none where it names another one."""
    words = set(re.findall(r"\w+", annotation)) - {
        "None",
        "Optional",
        "Union",
        "typing",
        "list",
        "List",
        "tuple",
        "Tuple",
    }
    known = {"float": nested_numbers(), "int": nested_numbers(), "bool": flag(), "str": or_several(text())}
    if not words or words - known.keys():
        return None
    rules = [known[word] for word in sorted(words)]
    return Rule(lambda value: any(rule.holds(value) for rule in rules), " or ".join(rule.said for rule in rules))


def _rule_of(default: Any) -> Rule | None:
    if isinstance(default, bool):
        return flag()
    if isinstance(default, int):
        return or_several(whole_number(min(default, 0), 1_000_000))
    if isinstance(default, float):
        return number(-1e9, 1e9)
    if isinstance(default, str):
        return or_several(text())
    if isinstance(default, (tuple, list)):
        return Rule(lambda value: isinstance(value, (tuple, list, int)) and value is not False, "a list")
    return None


def broken_rules(found: Mapping[str, Any], rules: Rules) -> Iterable[str]:
    """What is wrong with each setting that is unknown or breaks its rule."""
    for name, value in found.items():
        if name in rules:
            if not rules[name].holds(value):
                yield f"'{name}' must be {rules[name].said}, not {value!r:.60}"
        elif not name.startswith(COMMENTS):
            yield f"'{name:.60}' is not a setting of this kind of model"


def check_settings(found: Mapping[str, Any], rules: Rules, file: Path, needed: Iterable[str] = ()) -> None:
    """Check that a configuration has known settings only, each of a type and in a range that can be meant.

    Args:
        found: the configuration.
        rules: by the name of a setting.
        file: it is in.
        needed: settings that must be there.

    Raises:
        CheckpointError: the first setting that is not so is named, with its value.
    """
    wrong = next(iter(broken_rules(found, rules)), None)
    wrong = wrong or next((f"'{name}' is missing" for name in needed if name not in found), None)
    if wrong is not None:
        raise CheckpointError(f"'{file}' describes no model that can be built: {wrong}.")
