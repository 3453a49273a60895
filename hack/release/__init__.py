"""What a release consists of beside the code: its version, a small image, and the README of the chart."""
