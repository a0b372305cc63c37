"""Histograms of what was traced: one printer for all of them, as text, as JSON and as a picture."""
