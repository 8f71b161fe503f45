"""Side-by-side measurements: `python -m experiments.bench.NAME`.

Each prints what it does and, as its last line, one JSON object of figures.
Both sides of a comparison run in turns in one process, and a figure is the
median of the ratios.
"""
