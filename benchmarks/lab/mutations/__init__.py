"""A campaign of altered objects: what a stranger may show as a proof is altered in every way, and must be refused.

`target` says what is attacked, one module a target holds its valid objects and forgeries; `campaign` draws cases.
"""
