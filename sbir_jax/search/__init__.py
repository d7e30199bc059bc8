"""Search your own photos: an index of descriptors, its shell and its page."""
