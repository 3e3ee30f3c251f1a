"""Sequences of numbers, each with one answer at its end: what a recurrent network must remember."""
