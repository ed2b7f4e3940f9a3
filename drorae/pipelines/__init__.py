"""Sampling: flow matching, guidance, text encoding, and the diffusers pipelines built on them."""
