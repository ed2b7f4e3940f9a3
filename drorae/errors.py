"""What errors meant for people have in common."""


class DRoRAEError(Exception):
    """An error whose message is one sentence for a person: what is wrong, which value, what to do."""
