"""`embedding-operator serve`: embeds search texts over HTTP, with the models of the sources."""
