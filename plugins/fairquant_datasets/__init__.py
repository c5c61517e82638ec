"""Data sets: isic2019, fitzpatrick17k, a csv table with a folder of images, and synthetic lesions."""
