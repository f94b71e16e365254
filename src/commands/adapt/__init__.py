"""Adapt a backbone to a folder of unlabelled images, with no configuration."""
