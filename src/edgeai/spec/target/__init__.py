"""The frozen target model: loading, forward pass, KV cache, packed trees, scoring and sampling."""
