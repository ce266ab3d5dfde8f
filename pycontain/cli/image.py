"""``pycontain image``: the commands of images under Docker's other names for them."""

from __future__ import annotations

from .arguments import Command, Option

__all__ = ["COMMAND"]

COMMAND = Command(
    "pycontain image",
    "COMMAND [ARGUMENT...]",
    "Manage images. `pycontain image COMMAND --help` has the options of a command.",
    (Option("-h --help", "", "print this"),),
    commands={
        "history": ("history", "show how an image was made"),
        "import": ("import_", "make an image of a tar of a root file system"),
        "inspect": ("image_inspect", "print everything about images"),
        "load": ("load", "take images out of an archive"),
        "ls": ("images", "list images"),
        "prune": ("image_prune", "remove images that nothing uses"),
        "pull": ("pull", "download an image from a registry"),
        "push": ("push", "upload an image to a registry"),
        "rm": ("rmi", "remove images"),
        "save": ("save", "write images to an archive"),
        "tag": ("tag", "give an image one more name"),
        "tree": ("image_tree", "draw an image's layers and what each changed"),
    },
    synonyms={"list": "ls", "rmi": "rm", "remove": "rm", "images": "ls"},
)
