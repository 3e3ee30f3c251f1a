"""Random numbers that are a function of words: the seed, the epoch, the purpose."""

import hashlib

import torch


def seed_of(*words: int | str) -> int:
    """A 63-bit seed: other words give an unrelated one."""
    digest = hashlib.blake2b("\0".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*words: int | str) -> torch.Generator:
    """A CPU generator seeded from words."""
    return torch.Generator().manual_seed(seed_of(*words))
