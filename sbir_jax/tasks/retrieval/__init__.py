"""Finding photos by drawing."""
