"""Samplers, splits and the state that resumes them."""
