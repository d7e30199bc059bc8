"""Which text belongs to which image, read from a frozen backbone's cross-attention."""
