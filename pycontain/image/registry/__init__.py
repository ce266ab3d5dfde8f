"""The client of a registry: where a repository is asked for, who asks, and how bytes get here and back.

:class:`.client.Registry` is the door; nothing of this package is loaded before a registry is needed.
Spec: OCI distribution-spec 1.1, and Docker's registry HTTP API v2 before it.
"""
