"""crossrec: cross-domain recommendation research with large pretrained models."""

__version__ = "0.1.0"
