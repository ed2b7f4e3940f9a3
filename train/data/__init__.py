"""Pictures, captions and caches, addressed by the position in a run."""
