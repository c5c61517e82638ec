"""Data sets: isic2019, fitzpatrick17k, a table of your own, and synthetic lesions."""
