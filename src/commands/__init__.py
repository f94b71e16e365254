"""The commands of ``python -m src``: one module each, imported when it is asked for."""
