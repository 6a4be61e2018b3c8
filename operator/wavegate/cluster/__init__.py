"""Kubernetes I/O: one client, mirrors of what we watch, the codecs of what we store."""
