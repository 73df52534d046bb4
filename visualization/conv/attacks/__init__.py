"""Small changes of images that change the answer."""
