"""What detectors share: boxes, anchors, matching, sampling, pooling over regions, masks, suppression, losses.

Boxes are (..., 4) floats ``x1, y1, x2, y2`` in pixels of the image, whose top left corner is (0, 0); widths are
``x2 - x1``. An image's size is (height, width). Class logits have the background last.
"""
