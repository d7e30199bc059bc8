"""Segmentation, referring segmentation and depth by light heads (VPD)."""
