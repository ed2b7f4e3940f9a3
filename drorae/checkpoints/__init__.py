"""Names to checkpoint folders, and strict loading: whatever is missing or does not fit is an error, in one sentence."""

from drorae.checkpoints.folders import (
    PATTERNS,
    REVISIONS,
    commit,
    fetch_file,
    local_folder,
    resolve,
    split_revision,
    stored_folder,
    stored_only,
)
from drorae.checkpoints.hashes import module_hash, weights_hash
from drorae.checkpoints.loading import (
    build_strict,
    check_fit,
    check_same,
    check_stacks,
    headers_of,
    load_checked,
    load_strict,
)
from drorae.checkpoints.weights import (
    CONFIG,
    DISCRIMINATOR,
    INDEX,
    WEIGHTS,
    check_plain,
    find_variant,
    load_weights,
    read_config,
    read_weights,
    weight_files,
)
from drorae.model_files import CheckpointError

__all__ = [
    "CONFIG",
    "DISCRIMINATOR",
    "INDEX",
    "PATTERNS",
    "REVISIONS",
    "WEIGHTS",
    "CheckpointError",
    "build_strict",
    "check_fit",
    "check_plain",
    "check_same",
    "check_stacks",
    "commit",
    "fetch_file",
    "find_variant",
    "headers_of",
    "load_checked",
    "load_strict",
    "load_weights",
    "local_folder",
    "module_hash",
    "read_config",
    "read_weights",
    "resolve",
    "split_revision",
    "stored_folder",
    "stored_only",
    "weight_files",
    "weights_hash",
]
