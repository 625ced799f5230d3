"""Training: the one loop (`fit`), optimisers, averaged weights, run folders with exact resume, data parallelism.

Sees only `core`: previews, validation sets and judges reach `fit` as values and callbacks from recipes.
"""
