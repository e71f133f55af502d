"""Building, checking and converting data sets."""
