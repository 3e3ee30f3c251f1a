"""Texts: characters in contiguous streams."""
