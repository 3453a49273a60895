"""Where vectors come from: the registry, and a module for each provider. An SDK is imported only when it is used."""
