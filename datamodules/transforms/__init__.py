"""Augmentations: multi-crop for pre-training, geometry and colour for segmentation."""
