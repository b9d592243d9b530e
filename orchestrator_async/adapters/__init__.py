"""
Bridges to other libraries, each in a module that imports what it bridges to.
"""
