"""Segmentation heads: from the backbone's feature maps to class logits."""
