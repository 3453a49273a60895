"""The site of docs/, which mkdocs builds by mkdocs.yml: `make docs`."""
