"""Running the missing cells of a study, each in a process of its own."""
