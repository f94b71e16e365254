"""Primitives that every layer may use: safe file writing, checkpoint files and names. Needs torch and stdlib alone."""
