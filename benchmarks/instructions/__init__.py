"""How many instructions the parts that are pure computing take: noise of the machine doesn't change that.

Nothing is imported here, as what runs under callgrind is in this package.
"""
