"""Metrics on features and predictions: pure classes and functions on tensors, no Lightning."""
