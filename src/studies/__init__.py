"""Studies: rows × columns × seeds, run as cells that are stored on disk and never computed twice."""
