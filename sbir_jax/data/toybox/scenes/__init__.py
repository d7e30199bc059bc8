"""Toybox scenes: several things in one picture, with the exact truth.

`scene` draws what stands where, `placing` keeps it apart and upright, `render` makes
the pictures, `truth` says what they show, `grammar` makes text and its truth together
and `words` chooses texts. A single thing's picture depends on nothing in here: the key
of its prepared copy reads the files of the folder above alone.
"""
