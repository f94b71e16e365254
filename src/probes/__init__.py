"""LightningModules that measure features with little or no training."""
