"""Fine-tune a pretrained BERT on your own rows."""

__version__ = "0.1.0"
