"""A headless Chromium for the tests of the page and for pictures in the documents."""
