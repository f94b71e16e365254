"""Study files: rows, columns, seeds, and their cells."""
