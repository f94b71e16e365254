"""Primitives for every layer: safe file writing, checkpoint files and names. Needs only torch and the stdlib."""
