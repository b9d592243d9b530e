"""
What adapters add to the calls of the frameworks that they bridge to.
"""
