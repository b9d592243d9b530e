"""
What the adapters cost, beside the frameworks that they are for.
"""
