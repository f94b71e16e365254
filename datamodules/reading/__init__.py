"""Image, mask and TIFF files, and the errors they raise."""
