"""Study files: rows, columns, seeds, and the cells they make."""
