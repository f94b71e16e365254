"""LightningModules that train little or nothing, to measure features."""
