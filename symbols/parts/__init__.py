"""Build what several networks have in common: layers, stems, output layers, and the options that choose them."""
