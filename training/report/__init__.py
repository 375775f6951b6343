"""The training report: one HTML file, without parts from elsewhere, beside the models in the registry.

It says how a model was made and how it scores rows that it did not learn from. Only people read it; what programs need is in
the bundle's manifest.
"""
