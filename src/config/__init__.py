"""Read, compose, hash and check configurations."""
