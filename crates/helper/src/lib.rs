//! What happens beside the checkout: sources, caches, artifacts.
