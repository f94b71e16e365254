"""Does adaptation help, does it break the features, while it runs."""
