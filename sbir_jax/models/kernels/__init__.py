"""The networks' inner loops, by what each platform does fastest."""
