"""What a frozen backbone is used for: a folder for each task."""
