"""Configurations: reading, composing, hashing, and explaining what is wrong with them."""
