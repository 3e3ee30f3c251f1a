"""Sweeps: W&B's own files, run by W&B's agents, or here by ours without an account."""
