"""The page of search: drop an image, see its neighbours."""
