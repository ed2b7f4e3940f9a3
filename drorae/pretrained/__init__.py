"""Published weights: RAE's tokenizers and denoisers, adapters beside them, and their download."""
