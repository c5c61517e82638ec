"""Rounding that compensates: every layer rounded with the inputs that the rounded layers before it give."""
