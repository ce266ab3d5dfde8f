"""The objects users know: images; later containers, networks, volumes."""
