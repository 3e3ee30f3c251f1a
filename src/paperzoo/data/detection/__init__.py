"""Images with objects: boxes, classes and masks, and a label for each pixel where there are maps."""
