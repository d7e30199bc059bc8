"""Find photos by drawing, with a frozen text-to-image diffusion model."""
