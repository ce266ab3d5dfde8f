"""Root filesystems: directories, imported tars, OCI image layouts, and the built-in image ``host``."""
