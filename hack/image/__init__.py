"""The operator's image, built without a container engine where there is none."""
