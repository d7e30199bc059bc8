"""Toybox: a rendered world of everyday things, their photos and their sketches."""
