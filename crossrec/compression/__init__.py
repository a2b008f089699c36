"""Ways of making a pretrained text model, or its cached vectors, smaller or faster."""
