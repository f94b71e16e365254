"""Results of a study, read from the files of its cells."""
