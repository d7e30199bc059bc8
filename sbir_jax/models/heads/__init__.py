"""Light heads on the decoder's activations: segmentation, referring, depth."""
