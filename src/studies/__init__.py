"""A study: rows × columns × seeds, run as cells that are kept on disk and never computed twice."""
