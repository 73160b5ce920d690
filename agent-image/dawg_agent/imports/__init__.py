"""Which files of a commit import which: one module a language, and one that reads the tree.

Sources are read as text and never run. What cannot be understood has no imports, and is counted.
"""
