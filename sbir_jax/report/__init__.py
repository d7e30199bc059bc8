"""The page and the files that say what a run found."""
